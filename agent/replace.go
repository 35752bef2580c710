package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// unfreedFile is unfreed.json: the hosts that this one fenced to take their name,
// until what they held is free. It is written before the fence, so that a join
// which is killed in between loses nothing for ever.
type unfreedFile struct {
	Schema int                `json:"schema"`
	Hosts  []discovery.HostID `json:"hosts"`
}

const unfreedName = "unfreed.json"

func (d *dataDir) unfreed() ([]discovery.HostID, error) {
	var f unfreedFile
	if err := d.read(unfreedName, &f); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return f.Hosts, nil
}

// owe keeps the list of hosts whose blocks are to be freed, on the disk first.
func (s *session) owe(change func([]discovery.HostID) []discovery.HostID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := change(slices.Clone(s.unfreed))
	var err error
	if len(next) == 0 {
		err = s.data.remove(unfreedName)
	} else {
		err = s.data.write(unfreedName, unfreedFile{schema, next})
	}
	if err == nil {
		s.unfreed = next
	}
	return err
}

// replace fences the dead host whose name this one takes.
func (s *session) replace(ctx context.Context, peers []netip.AddrPort, progress func(string)) error {
	hosts, err := s.pool.Hosts(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(hosts, func(h pool.Host) bool { return h.Name == s.host.Name })
	if i < 0 {
		return nil
	}
	old := hosts[i]
	if err := s.checkDead(ctx, old, peers, progress); err != nil {
		return err
	}
	progress("fencing the host that had the name " + old.Name)
	add := func(all []discovery.HostID) []discovery.HostID { return append(all, old.ID) }
	if err := s.owe(add); err != nil {
		return err
	}
	return s.pool.FenceLost(ctx, old.ID, old.Name, s.host.Name)
}

// checkDead refuses to replace a host that may still run: what it has would be
// given away under it. The members are asked first, since a firewall may hide
// from here what they see; then the host's own kernel.
func (s *session) checkDead(ctx context.Context, old pool.Host, peers []netip.AddrPort, progress func(string)) error {
	if old.VTEP == s.cfg.Advertise {
		return nil // at our own address only the host that we replace can have been
	}
	s.runDirectory()
	if _, err := s.directory.Join(ctx, peers, progress); err != nil {
		return err
	}
	taken := api.Errorf(api.KindConflict, "host %s is not dead, it is at %s: its name cannot be taken", old.Name, old.Gossip.Addr())
	if st := memberOf(s.directory.View(), old.ID).Status; st != discovery.StatusDead && st != discovery.StatusLeft {
		return taken.WithHint("agentctl members # on a member: wait until it is dead\nagentd --name NAME # another one")
	}
	if gossipAnswers(old.Gossip) {
		return taken.WithHint("agentd --name NAME # another one, or stop that one")
	}
	return nil
}

// freeReplaced gives back what hosts held whose name this one took, once every
// member knows that they are gone.
func (s *session) freeReplaced(ctx context.Context, progress func(string)) {
	s.mu.Lock()
	ids := slices.Clone(s.unfreed)
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	progress("freeing what the replaced host held")
	s.directory.Forget(ids)
	s.awaitFence(ctx, ids)
	s.freeAgain(ctx)
}

// freeAgain frees what replaced hosts held; what fails is tried again.
func (s *session) freeAgain(ctx context.Context) {
	s.mu.Lock()
	ids := slices.Clone(s.unfreed)
	s.mu.Unlock()
	for _, id := range ids {
		// One that was never fenced was not replaced: the join was killed before.
		if _, _, err := s.pool.FreeHeld(ctx, id); err != nil && !errors.Is(err, pool.ErrNotFenced) {
			s.log.Warn("what the replaced host held is not free yet, tried again every minute", "id", id, "err", err)
			continue
		}
		done := func(all []discovery.HostID) []discovery.HostID {
			return slices.DeleteFunc(all, func(o discovery.HostID) bool { return o == id })
		}
		if err := s.owe(done); err != nil {
			s.log.Warn("cannot note that the replaced host's blocks are free", "id", id, "err", err)
		}
	}
}
