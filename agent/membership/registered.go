package membership

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
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
// 30 s and when gossip shows something new, until ctx ends. It calls changed after
// each reading. It calls lost when the pool has no record of this host: then the store
// was wiped, another host wrote the cluster's record back, and whatever this host
// holds is missing too.
func (m *Membership) Run(ctx context.Context, changed, lost func()) error {
	next := pace.Hinted{First: hintFirst, Most: hintMost}
	for {
		wait, news := 30*time.Second, false
		hosts, err := m.records.Hosts(ctx)
		if err != nil {
			wait = time.Second
			m.Hosts.away()
		} else {
			news = m.setRegistered(hosts)
			changed()
			m.registerAgain(ctx, hosts, lost)
		}
		m.checkRemoved(ctx)
		if !next.Sleep(ctx, wait, m.Hosts.wake, news) {
			return nil
		}
	}
}

// setRegistered takes the pool's hosts, and lets gossip look again at whom it knows.
func (m *Membership) setRegistered(hosts []pool.Host) (news bool) {
	ids := []discovery.HostID{}
	for _, h := range hosts {
		ids = append(ids, h.ID)
	}
	m.mu.Lock()
	m.registered = ids
	m.mu.Unlock()
	v := m.directory.View()
	drop, news, err := m.Hosts.take(m.cfg.Host.ID, hosts, func(id discovery.HostID) bool {
		o := v.Member(id)
		return o.ID.IsZero() || o.Status == discovery.StatusLeft || o.Header.Flags&discovery.FlagGone != 0
	})
	if err != nil {
		m.cfg.Log.Warn("the pool's hosts are not saved for the next start", "err", err)
	}
	if len(drop) > 0 {
		m.cfg.Log.Warn("refused", "border", string(strict.Gossip), "source", fmt.Sprintf("%d hosts", len(drop)), "why", "the pool has no record of them")
	}
	if news || len(drop) > 0 {
		m.directory.Reconsider(drop)
	}
	return news
}

// registerAgain corrects this host's record in the pool, which says where it was
// at its last start. Where another instance of this host answers the record is that
// one's.
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
			if m.directory.Running(h.Gossip) {
				m.Clones.Conflict(h.Gossip)
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
