package membership

import (
	"context"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/pool"
)

// patience is how long a registered host that nobody has heard of keeps this
// one from sweeping.
const patience = time.Minute

// AllHeard reports whether the state of every registered host is known, be it
// from the disk. Without it a host whose view.db was lost would take itself for
// alone and sweep the others' entries before it hears of them.
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

// Run keeps the list of registered hosts, and this host's own record, until ctx
// ends. It calls changed for each list, and lost when this host has no record: the
// store was wiped, and somebody else was the first to write the cluster back, so
// that the rest of what is this host's is missing too.
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
