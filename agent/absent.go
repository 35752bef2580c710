package agent

import (
	"context"
	"errors"

	"github.com/weft-net/weft/discovery"
)

// freeAbsent gives back what hosts hold of a network that is being deleted when
// they cannot do it themselves: everybody but the members whose agents run, hosts
// that nobody knows any more among them. The addresses are nobody's again, and
// that harms no one: they go with the network, whose VNI is not given out again.
// An agent that is down leaves a kernel that still carries the network; it sees
// the tombstone when it is back and removes it (leaveDeleted).
func (s *session) freeAbsent(ctx context.Context, n discovery.Network) error {
	holders, err := s.holders(ctx, n)
	if err != nil {
		return err
	}
	for _, m := range s.directory.View().Members {
		if m.Status == discovery.StatusAlive || m.Status == discovery.StatusSuspect {
			delete(holders, m.ID)
		}
	}
	var errs []error
	for id := range holders {
		errs = append(errs, s.pool.FreeNetworkHeld(ctx, n, id))
	}
	return errors.Join(errs...)
}

// holders are the hosts that have blocks or reserved addresses of a network.
func (s *session) holders(ctx context.Context, n discovery.Network) (map[discovery.HostID]bool, error) {
	out := map[discovery.HostID]bool{}
	blocks, err := s.pool.Blocks(ctx, n.ID)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		out[b.Host] = true
	}
	for _, sub := range n.Subnets {
		reserved, err := s.pool.Reserved(ctx, n.ID, sub.CIDR)
		if err != nil {
			return nil, err
		}
		for _, r := range reserved {
			out[r.Host] = true
		}
	}
	return out, nil
}
