package table

import (
	"bytes"
	"maps"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// buckets is how many groups the owners fall into, by the first byte of their
// ids, when there are too many to list at once.
const buckets = 256

// owners finds an owner by its id or by its name inside messages, and keeps the
// hash over the versions of all of them.
type owners struct {
	byID    map[discovery.HostID]*owner
	byShort map[short]discovery.HostID
	admit   Admit  // may be nil: all are taken in
	root    uint64 // XOR over all owners whose state is known, whatever is believed of their life
}

func newOwners() owners {
	return owners{byID: map[discovery.HostID]*owner{}, byShort: map[short]discovery.HostID{}}
}

// add returns the owner of that id, made if it is not known.
func (os *owners) add(id discovery.HostID) *owner {
	o, ok := os.byID[id]
	if !ok {
		o = &owner{id: id, eps: map[discovery.EndpointID]entry{}, hidden: true}
		os.byID[id], os.byShort[shortOf(id)] = o, id
	}
	return o
}

// admitted returns the owner of that id; nil: its state is not taken in. Running: it
// takes part, and is not only spoken of.
func (os *owners) admitted(id discovery.HostID, running bool) *owner {
	if o := os.byID[id]; o != nil {
		return o
	}
	if os.admit != nil && !os.admit(id, running) {
		return nil
	}
	return os.add(id)
}

// shown reports whether the owner is in a view: one that may yet turn out to be a member
// is held, so that it is complete when it does, and nothing more.
func (os *owners) shown(o *owner, self discovery.HostID) bool {
	return os.admit == nil || o.id == self || os.admit(o.id, false)
}

// since is when this host first heard of what a record announces.
func (os *owners) since(r *discovery.Record) uint64 { return os.byID[r.Host].eps[r.ID].since }

// lookup returns nil for an owner that is not known.
func (os *owners) lookup(s short) *owner { return os.byID[os.byShort[s]] }

func (os *owners) remove(o *owner) {
	os.setVersion(o, Version{})
	delete(os.byID, o.id)
	delete(os.byShort, shortOf(o.id))
}

func (os *owners) setVersion(o *owner, at Version) {
	if !o.at.IsZero() {
		os.root ^= hash64(o.id[:], o.at.Inc, o.at.Ver)
	}
	if !at.IsZero() {
		os.root ^= hash64(o.id[:], at.Inc, at.Ver)
	}
	o.at = at
}

// known returns how many owners' states are held.
func (os *owners) known() (n int) {
	for _, o := range os.byID {
		if !o.at.IsZero() {
			n++
		}
	}
	return n
}

// othersAlive returns the members besides self that take part, sorted.
func (os *owners) othersAlive(self discovery.HostID) []discovery.HostID {
	var out []discovery.HostID
	for id, o := range os.byID {
		if id != self && !down(o.status) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareIDs)
	return out
}

// alone reports whether no member besides self takes part.
func (os *owners) alone(self discovery.HostID) bool {
	for id, o := range os.byID {
		if id != self && !down(o.status) {
			return false
		}
	}
	return true
}

// digest returns the entries of the owners that in selects, sorted.
func (os *owners) digest(in func(short) bool) []digestEntry {
	out := make([]digestEntry, 0, len(os.byID))
	for id, o := range os.byID {
		if s := shortOf(id); !o.at.IsZero() && in(s) {
			out = append(out, digestEntry{Owner: s, At: o.at, CRC: o.crc})
		}
	}
	slices.SortFunc(out, func(a, b digestEntry) int { return bytes.Compare(a.Owner[:], b.Owner[:]) })
	return out
}

func (os *owners) bucketHashes() []uint64 {
	out := make([]uint64, buckets)
	for id, o := range os.byID {
		if !o.at.IsZero() {
			out[id[0]] ^= hash64(id[:], o.at.Inc, o.at.Ver)
		}
	}
	return out
}

func compareIDs(a, b discovery.HostID) int { return bytes.Compare(a[:], b[:]) }

func sortedIDs[V any](m map[discovery.HostID]V) []discovery.HostID {
	return slices.SortedFunc(maps.Keys(m), compareIDs)
}

// forgotten is the hosts whose states are refused at any incarnation.
type forgotten struct {
	byID    map[discovery.HostID]struct{}
	byShort map[short]discovery.HostID
}

func newForgotten() forgotten {
	return forgotten{byID: map[discovery.HostID]struct{}{}, byShort: map[short]discovery.HostID{}}
}

func (f *forgotten) add(id discovery.HostID) {
	f.byID[id], f.byShort[shortOf(id)] = struct{}{}, id
}

func (f *forgotten) has(id discovery.HostID) bool {
	_, ok := f.byID[id]
	return ok
}

func (f *forgotten) hasShort(s short) bool {
	_, ok := f.byShort[s]
	return ok
}

// hash is what Header.GoneHash shows: it does not depend on the order.
func (f *forgotten) hash() (h uint64) {
	for id := range f.byID {
		h ^= HashID(id)
	}
	return h
}
