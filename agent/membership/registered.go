package membership

import (
	"context"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/pool"
)

// patience is how long this host does not sweep because it has not heard of a
// registered host.
const patience = time.Minute

// AllHeard reports whether this host knows the state of every registered host, from
// gossip or from the disk. Without it a host that lost view.db would take itself
// for alone, and would sweep the others' entries before it hears of them.
func (m *Membership) AllHeard(v discovery.View) bool {
	m.mu.Lock()
	registered := m.registered
	m.mu.Unlock()
	if registered == nil {
		return false
	}
	if time.Since(m.started) > patience {
		return true
	}
	known := map[discovery.HostID]bool{}
	for _, o := range v.Members {
		known[o.ID] = o.Header.VTEP.IsValid()
	}
	for _, id := range registered {
		if !known[id] {
			return false
		}
	}
	return true
}

// Run reads the list of registered hosts and corrects this host's own record, every
// 30 s until ctx ends. It calls changed after each reading. It calls lost when the
// pool has no record of this host: then the store was wiped, another host wrote the
// cluster's record back, and whatever this host holds is missing too.
func (m *Membership) Run(ctx context.Context, changed, lost func()) error {
	for {
		wait := 30 * time.Second
		hosts, err := m.records.Hosts(ctx)
		if err != nil {
			wait = time.Second
		} else {
			m.setRegistered(hosts)
			changed()
			m.registerAgain(ctx, hosts, lost)
		}
		if !pace.Sleep(ctx, wait) {
			return nil
		}
	}
}

func (m *Membership) setRegistered(hosts []pool.Host) {
	ids := []discovery.HostID{}
	for _, h := range hosts {
		ids = append(ids, h.ID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registered = ids
}

// registerAgain corrects this host's record in the pool, which says where it was
// at its last start.
func (m *Membership) registerAgain(ctx context.Context, hosts []pool.Host, lost func()) {
	if m.Usable() != nil {
		return
	}
	want := m.Record()
	found := false
	for _, h := range hosts {
		if h.ID == want.ID {
			found, want.Joined = true, h.Joined
			if h.VTEP == want.VTEP && h.Gossip == want.Gossip && h.Version == want.Version && h.Incarnation == want.Incarnation {
				return
			}
		}
	}
	if !found {
		lost()
		return
	}
	if err := m.records.Register(ctx, want); err != nil {
		m.cfg.Log.Warn("this host's record in the store is not up to date", "err", err)
	}
}
