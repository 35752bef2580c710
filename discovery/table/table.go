package table

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

const (
	// restoredGrace is how long an owner read from the disk counts as alive.
	restoredGrace = 15 * time.Second
	// backSoonGrace is how long the names of a host that announced its stop
	// stay after it was found dead.
	backSoonGrace = 60 * time.Second
)

// Table merges the states of all owners into one. Each owner is the only
// writer of its state; a Table never invents a change of another's. The same
// set of states gives the same table whatever the order in which they came.
//
// It does no I/O, reads no clock and is not safe for concurrent use.
type Table struct {
	own       *owner
	grace     time.Duration
	owners    owners
	forgotten forgotten
	announced announced

	state ownState

	holder Holder // may be nil
	limit  limit
	heard  uint64 // counts endpoints and addresses, as they are heard of

	complete bool      // every alive owner was pulled once
	joining  bool      // complete is not to be latched
	revision uint64    // grows with each change of the view
	stored   uint64    // grows with each change of what is persisted
	started  time.Time // restored owners count as alive from here
	view     viewCache
}

// Config is what a Table starts from. Self is needed.
type Config struct {
	Self        discovery.HostID
	Incarnation uint64 // of this start; raised above Saved's when that is not lower
	Header      discovery.Header
	Endpoints   []discovery.Endpoint
	Saved       []byte        // a Table's MarshalBinary, or nil
	Grace       time.Duration // from death to hidden names
	Now         time.Time
	Admit       Admit // may be nil: all are admitted
	// Most is how many endpoints of one other host are held; 0: MostEndpoints.
	Most int
}

// Admit reports whether a host is a member, or with running whether one that takes part
// may be one. It is asked again whenever a view is made.
type Admit = func(id discovery.HostID, running bool) bool

// MostEndpoints is how many endpoints of one host are held where nothing else is
// configured.
const MostEndpoints = 4096

// New returns a table whose own state has one version, with all given
// endpoints in it. A Saved that does not decode is an error; the caller may
// start without it.
func New(cfg Config) (*Table, error) {
	t := &Table{grace: cfg.Grace, started: cfg.Now, owners: newOwners(), forgotten: newForgotten(),
		limit:     limit{most: cmp.Or(cfg.Most, MostEndpoints), now: cfg.Now},
		announced: announced{count: map[claimed]int{}}, view: viewCache{stale: map[discovery.HostID]struct{}{}}}
	t.own = t.owners.add(cfg.Self)
	t.owners.admit = cfg.Admit
	t.own.status, t.own.pulled, t.own.hidden = discovery.StatusAlive, true, false
	inc := max(cfg.Incarnation, 1)
	if cfg.Saved != nil {
		t.joining = true // a state that only the disk has shown completes nothing
		last, err := restore(t, cfg.Saved)
		if err != nil {
			return nil, fmt.Errorf("restore table: %w", err)
		}
		inc = max(inc, last+1)
	}
	first := Version{Inc: inc, Ver: 1}
	h := normalHeader(cfg.Header)
	h.GoneHash = t.forgotten.hash()
	t.setHeader(t.own, h, appendHeader(nil, h))
	for _, e := range cfg.Endpoints {
		e = normalEndpoint(e)
		t.upsert(t.own, entry{Endpoint: e, raw: appendEndpoint(nil, e), ver: first.Ver})
	}
	t.setVersion(t.own, first)
	t.state.floor = first.Ver
	t.SetJoining(false)
	return t, nil
}

func (t *Table) changed() {
	t.revision++
	t.stored++
	t.view.members = nil
}

// endpointsChanged marks the owner's part of the view.
func (t *Table) endpointsChanged(o *owner) {
	t.changed()
	t.view.stale[o.id] = struct{}{}
}

func (t *Table) setVersion(o *owner, at Version) {
	if o.at != at {
		t.stored++
	}
	t.owners.setVersion(o, at)
}

// setHeader takes a header, of which it believes what can be.
func (t *Table) setHeader(o *owner, h discovery.Header, raw []byte) {
	wrong := ""
	if o != t.own {
		var err error
		if h, err = strict.Header(h); err != nil {
			wrong = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	if !o.setHeader(h, wrong, raw) {
		return
	}
	if o.left() {
		for id := range o.eps {
			t.remove(o, id)
		}
	}
	t.changed()
}

func (t *Table) upsert(o *owner, e entry) {
	old, ok := o.eps[e.ID]
	if ok {
		if bytes.Equal(old.raw, e.raw) {
			return
		}
		t.remove(o, e.ID)
	}
	if ok && old.IPv4 == e.IPv4 && old.IPv6 == e.IPv6 && old.MAC == e.MAC {
		e.since = old.since
	} else {
		t.heard++
		e.since = t.heard
	}
	o.put(e)
	t.endpointsChanged(o)
	if o != t.own {
		if err := strict.Announced(e.Endpoint); err != nil {
			o.refuse(e.ID, err.Error())
			return
		}
	}
	t.announced.add(&e.Endpoint)
}

func (t *Table) remove(o *owner, id discovery.EndpointID) {
	e, ok := o.eps[id]
	if !ok {
		return
	}
	if o.believes(id) {
		t.announced.remove(&e.Endpoint)
	}
	o.take(e)
	t.endpointsChanged(o)
}

// Self returns the id of the table's own host.
func (t *Table) Self() discovery.HostID { return t.own.id }

// Root returns the hash that is equal on members whose tables are.
func (t *Table) Root() uint64 { return t.owners.root }

// OwnVersion returns the version of the own state.
func (t *Table) OwnVersion() Version { return t.own.at }

// Owners returns how many hosts the table holds a state of, the own included.
func (t *Table) Owners() int { return t.owners.known() }

// Revision grows with each change of the view.
func (t *Table) Revision() uint64 { return t.revision }

// StoredRevision grows with each change of what MarshalBinary writes.
func (t *Table) StoredRevision() uint64 { return t.stored }

// Forget drops the hosts and refuses their states at any incarnation: each
// start raises it, so refusing one incarnation would be no fence. It reports
// whether a host was not yet forgotten.
func (t *Table) Forget(ids []discovery.HostID) bool {
	news := false
	for _, id := range ids {
		if t.forgotten.has(id) {
			continue
		}
		news = true
		t.forgotten.add(id)
		t.stored++
		if o := t.owners.byID[id]; o != nil && o != t.own {
			t.drop(o)
		}
	}
	if news {
		hash := t.forgotten.hash()
		t.SetHeader(func(h *discovery.Header) { h.GoneHash = hash })
		t.checkComplete()
	}
	return news
}

// Reconsider makes the view anew, since Admit answers otherwise than before, and removes
// what is held of some hosts. They are not forgotten: once they are admitted again, they
// are like any other.
func (t *Table) Reconsider(drop []discovery.HostID) {
	for _, id := range drop {
		if o := t.owners.byID[id]; o != nil && o != t.own {
			t.stored++
			t.drop(o)
		}
	}
	for _, o := range t.owners.byID {
		t.endpointsChanged(o)
	}
	t.checkComplete()
}

// drop removes the owner and everything it announced.
func (t *Table) drop(o *owner) {
	for id := range o.eps {
		t.remove(o, id)
	}
	t.setVersion(o, Version{})
	t.owners.remove(o)
	t.endpointsChanged(o)
	t.endpointsChanged(t.own) // pending or not depends on whether others live
}

// SetHolder says who holds which address, as the pool has it, from now on.
func (t *Table) SetHolder(h Holder) {
	t.holder = h
	t.endpointsChanged(t.own) // so that the conflicts of the view are decided anew
}

// Forgotten reports whether the host was forgotten.
func (t *Table) Forgotten(id discovery.HostID) bool { return t.forgotten.has(id) }

// ForgottenHosts returns the ids of the forgotten hosts, sorted.
func (t *Table) ForgottenHosts() []discovery.HostID { return sortedIDs(t.forgotten.byID) }
