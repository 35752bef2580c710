package agent

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
)

// claimWithin is how long a lease may be without an endpoint: Docker asks for
// the address some milliseconds before it names the endpoint, and says nothing
// when it changes its mind.
const claimWithin = time.Minute

// lease takes an address for an endpoint that Docker names later. It is
// persisted as a lease whose owner is not in the journal.
func (s *session) lease(ctx context.Context, n discovery.Network, want netip.Addr) (ipam.Lease, error) {
	if o, ok := s.unclaimedLease(n.ID, want); ok {
		// Docker asks again when the answer was lost, as with an agent that ended
		// in between. Of two who want the address one gets it in claim.
		return o.Lease, nil
	}
	var owner discovery.EndpointID
	_, _ = rand.Read(owner[:])
	l, err := s.leases.Lease(ctx, n, owner, want)
	if err == nil {
		s.docker.mu.Lock()
		defer s.docker.mu.Unlock()
		s.docker.unclaimed[owner] = time.Now()
	}
	return l, err
}

// unclaimedLease finds the lease of an address that no endpoint has.
func (s *session) unclaimedLease(n discovery.NetworkID, a netip.Addr) (ipam.Owned, bool) {
	for _, o := range s.leases.Leases() {
		if o.Network != n || o.Addr.Addr() != a {
			continue
		}
		_, claimed := s.journal.get(o.Owner)
		return o, !claimed && !s.busy(o.Owner)
	}
	return ipam.Owned{}, false
}

// busy reports whether a request works on an endpoint that the journal may not
// name yet.
func (s *session) busy(id discovery.EndpointID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attaching[id]
}

// release ends an address's lease. What a living endpoint has is kept: Docker
// says so of endpoints that it has lost and found again.
func (s *session) release(ctx context.Context, n discovery.NetworkID, a netip.Addr) error {
	s.docker.claiming.Lock()
	o, ok := s.unclaimedLease(n, a)
	if !ok {
		s.docker.claiming.Unlock()
		return nil
	}
	defer s.markBusy(o.Owner)() // no endpoint claims it any more
	s.docker.claiming.Unlock()
	err := s.leases.Free(ctx, n, o.Owner)
	if err == nil {
		s.docker.claimed(o.Owner)
	}
	return err
}

// claimed takes a lease off the list of those that nobody has taken up.
func (b *dockerBook) claimed(owner discovery.EndpointID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unclaimed, owner)
}

// freeUnclaimed frees leases that no endpoint has taken up in time.
func (s *session) freeUnclaimed(ctx context.Context, now time.Time) {
	all := s.leases.Leases()
	s.docker.keepUnclaimed(all)
	for _, o := range all {
		_, claimed := s.journal.get(o.Owner)
		switch since := s.docker.unclaimedSince(o.Owner, now); {
		case claimed || s.busy(o.Owner):
			s.docker.claimed(o.Owner)
		case now.Sub(since) > claimWithin:
			if err := s.release(ctx, o.Network, o.Addr.Addr()); err != nil {
				s.log.Warn("lease without endpoint not freed", "addr", o.Addr, "err", err)
				continue
			}
			s.log.Info("address freed that no endpoint took up", "addr", o.Addr)
		}
	}
}

// keepUnclaimed forgets what was freed otherwise.
func (b *dockerBook) keepUnclaimed(leases []ipam.Owned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for owner := range b.unclaimed {
		if !slices.ContainsFunc(leases, func(o ipam.Owned) bool { return o.Owner == owner }) {
			delete(b.unclaimed, owner)
		}
	}
}

// unclaimedSince returns when a lease was first seen without an endpoint.
func (b *dockerBook) unclaimedSince(owner discovery.EndpointID, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unclaimed[owner].IsZero() {
		b.unclaimed[owner] = now
	}
	return b.unclaimed[owner]
}
