package table

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	// restoredGrace is how long an owner read from the disk counts as alive.
	restoredGrace = 15 * time.Second
	// backSoonGrace is how long the names of a host that announced its stop
	// stay after it was found dead.
	backSoonGrace = 60 * time.Second
	// logLength is how many changes an owner keeps to answer pulls with.
	logLength = 4096
	// heldDeltas bounds the early deltas kept per owner until the gap closes.
	heldDeltas = 32
)

// Table merges the states of all owners into one. Each owner is the only
// writer of its state; a Table never invents a change of another's. The same
// set of states gives the same table whatever the order in which they came.
//
// It does no I/O, reads no clock and is not safe for concurrent use.
type Table struct {
	self     discovery.HostID
	own      *owner
	grace    time.Duration
	owners   map[discovery.HostID]*owner
	byShort  map[Short]discovery.HostID
	gone     map[discovery.HostID]struct{}
	goneName map[Short]discovery.HostID
	claims   claims
	root     uint64

	log      []Op   // own changes, oldest first
	logFloor uint64 // own version that the log begins after
	shown    uint64 // newest own version that another member has shown

	complete bool      // every alive owner was pulled once
	joining  bool      // complete is not to be latched
	revision uint64    // grows with each change of the view
	stored   uint64    // grows with each change of what is persisted
	started  time.Time // restored owners count as alive from here
	view     viewCache
}

// owner is what the table holds of one host: its state, and what gossip says
// of it as a member.
type owner struct {
	id     discovery.HostID
	at     Version
	header discovery.Header
	raw    []byte // header as the owner wrote it
	eps    map[discovery.EndpointID]entry
	crc    uint32
	held   []Delta
	parts  map[uint64]Section

	gossip   netip.AddrPort
	status   discovery.MemberStatus
	rtt      time.Duration
	died     time.Time // when status became dead
	hidden   bool
	restored bool      // from the disk, gossip has not spoken of it
	pulled   bool      // confirmed since this agent started
	holds    Version   // newest version of our own state that it has shown
	asked    bool      // it waits to hear which version of its state is held
	askedAt  time.Time // when it was asked whether what we remember of it holds
}

type entry struct {
	discovery.Endpoint
	raw []byte
	ver uint64 // own endpoints: the version that announced it
}

// TableConfig is what a Table starts from.
type Config struct {
	Self        discovery.HostID
	Incarnation uint64 // of this start; raised above Saved's when that is not lower
	Header      discovery.Header
	Endpoints   []discovery.Endpoint
	Saved       []byte        // a Table's MarshalBinary, or nil
	Grace       time.Duration // from death to hidden names
	Now         time.Time
}

// NewTable returns a table whose own state has one version, with all given
// endpoints in it. A Saved that does not decode is an error; the caller may
// start without it.
func New(cfg Config) (*Table, error) {
	t := &Table{
		self: cfg.Self, grace: cfg.Grace, started: cfg.Now,
		owners: map[discovery.HostID]*owner{}, byShort: map[Short]discovery.HostID{},
		gone: map[discovery.HostID]struct{}{}, goneName: map[Short]discovery.HostID{},
		claims: claims{count: map[claim]int{}},
	}
	t.own = t.add(cfg.Self)
	t.own.status, t.own.pulled, t.own.hidden = discovery.StatusAlive, true, false
	inc := max(cfg.Incarnation, 1)
	if cfg.Saved != nil {
		t.joining = true // a state that only the disk has shown completes nothing
		last, err := t.restore(cfg.Saved)
		if err != nil {
			return nil, fmt.Errorf("restore table: %w", err)
		}
		inc = max(inc, last+1)
	}
	t.begin(Version{Inc: inc, Ver: 1}, cfg.Header, cfg.Endpoints)
	t.SetJoining(false)
	return t, nil
}

// begin installs the first version of the own state.
func (t *Table) begin(at Version, h discovery.Header, eps []discovery.Endpoint) {
	h = normalHeader(h)
	h.GoneHash = t.goneHash()
	t.setHeader(t.own, h, appendHeader(nil, h))
	for _, e := range eps {
		e = normalEndpoint(e)
		t.upsert(t.own, entry{Endpoint: e, raw: appendEndpoint(nil, e), ver: at.Ver})
	}
	t.setVersion(t.own, at)
	t.logFloor = at.Ver
}

// add returns the owner of that id, made if it is not known.
func (t *Table) add(id discovery.HostID) *owner {
	o, ok := t.owners[id]
	if !ok {
		o = &owner{id: id, eps: map[discovery.EndpointID]entry{}, hidden: true}
		t.owners[id], t.byShort[ShortOf(id)] = o, id
	}
	return o
}

func (t *Table) lookup(s Short) *owner { return t.owners[t.byShort[s]] }

// drop forgets the owner and everything it announced.
func (t *Table) drop(o *owner) {
	for id := range o.eps {
		t.remove(o, id)
	}
	t.setVersion(o, Version{})
	delete(t.owners, o.id)
	delete(t.byShort, ShortOf(o.id))
	t.endpointsChanged(o)
	t.endpointsChanged(t.own)
}

func (t *Table) changed() {
	t.revision++
	t.stored++
	t.view.members = nil
}

// endpointsChanged marks the owner's part of the view.
func (t *Table) endpointsChanged(o *owner) {
	t.changed()
	if t.view.stale == nil {
		t.view.stale = map[discovery.HostID]struct{}{}
	}
	t.view.stale[o.id] = struct{}{}
}

// setVersion keeps the root hash: the XOR over all owners whose state is
// known, whatever is believed of their life.
func (t *Table) setVersion(o *owner, at Version) {
	if !o.at.IsZero() {
		t.root ^= hash64(o.id[:], o.at.Inc, o.at.Ver)
	}
	if !at.IsZero() {
		t.root ^= hash64(o.id[:], at.Inc, at.Ver)
	}
	if o.at != at {
		t.stored++
	}
	o.at = at
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is what an entry adds to its owner's checksum. The sums are XORed, so
// the checksum does not depend on the order of the entries.
func sum(id discovery.EndpointID, raw []byte) uint32 {
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, raw)
}

func (t *Table) setHeader(o *owner, h discovery.Header, raw []byte) {
	if o.raw != nil {
		o.crc ^= sum(discovery.EndpointID{}, o.raw)
	}
	o.crc ^= sum(discovery.EndpointID{}, raw)
	if bytes.Equal(o.raw, raw) {
		return
	}
	o.header, o.raw = h, raw
	if h.Flags&discovery.FlagGone != 0 {
		for id := range o.eps {
			t.remove(o, id)
		}
	}
	t.changed()
}

func (t *Table) upsert(o *owner, e entry) {
	if old, ok := o.eps[e.ID]; ok {
		if bytes.Equal(old.raw, e.raw) {
			return
		}
		t.remove(o, e.ID)
	}
	o.eps[e.ID] = e
	o.crc ^= sum(e.ID, e.raw)
	t.claims.add(e.Endpoint)
	t.endpointsChanged(o)
}

func (t *Table) remove(o *owner, id discovery.EndpointID) {
	e, ok := o.eps[id]
	if !ok {
		return
	}
	delete(o.eps, id)
	o.crc ^= sum(id, e.raw)
	t.claims.remove(e.Endpoint)
	t.endpointsChanged(o)
}

// Self returns the id of the table's own host.
func (t *Table) Self() discovery.HostID { return t.self }

// Root returns the hash that is equal on members whose tables are.
func (t *Table) Root() uint64 { return t.root }

// OwnVersion returns the version of the own state.
func (t *Table) OwnVersion() Version { return t.own.at }

// Owners returns how many hosts the table holds a state of, the own included.
func (t *Table) Owners() (n int) {
	for _, o := range t.owners {
		if !o.at.IsZero() {
			n++
		}
	}
	return n
}

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
		if _, ok := t.gone[id]; ok {
			continue
		}
		news = true
		t.gone[id], t.goneName[ShortOf(id)] = struct{}{}, id
		t.stored++
		if o := t.owners[id]; o != nil && id != t.self {
			t.drop(o)
		}
	}
	if news {
		hash := t.goneHash()
		t.SetHeader(func(h *discovery.Header) { h.GoneHash = hash })
		t.checkComplete()
	}
	return news
}

// Forgotten reports whether the host was forgotten.
func (t *Table) Forgotten(id discovery.HostID) bool {
	_, ok := t.gone[id]
	return ok
}

// ForgottenHosts returns the ids of the forgotten hosts, sorted.
func (t *Table) ForgottenHosts() []discovery.HostID { return sortedIDs(t.gone) }

func (t *Table) goneHash() (h uint64) {
	for id := range t.gone {
		h ^= HashID(id)
	}
	return h
}

// digest returns the entries of the owners that in selects, sorted.
func (t *Table) digest(in func(Short) bool) []DigestEntry {
	out := make([]DigestEntry, 0, len(t.owners))
	for id, o := range t.owners {
		if !o.at.IsZero() && in(ShortOf(id)) {
			out = append(out, DigestEntry{Owner: ShortOf(id), At: o.at, CRC: o.crc})
		}
	}
	slices.SortFunc(out, func(a, b DigestEntry) int { return bytes.Compare(a.Owner[:], b.Owner[:]) })
	return out
}

func (t *Table) bucketHashes() []uint64 {
	out := make([]uint64, buckets)
	for id, o := range t.owners {
		if !o.at.IsZero() {
			out[id[0]] ^= hash64(id[:], o.at.Inc, o.at.Ver)
		}
	}
	return out
}
