package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// storedFormat is the first byte of a table on the disk.
const storedFormat = 1

// Tags of a stored table's fields.
const (
	tagStoredInc = iota + 1
	tagStoredGone
	tagStoredPeer
	tagStoredSection
	tagStoredHidden
)

// MarshalBinary writes the states of all other owners, their addresses, whose
// names are hidden, the forgotten hosts and the own incarnation. It never fails.
func (t *Table) MarshalBinary() ([]byte, error) {
	b := appendUint([]byte{storedFormat}, tagStoredInc, t.own.at.Inc)
	for _, id := range sortedIDs(t.gone) {
		if id != t.self { // whether we are forgotten, each start is told anew
			b = appendBytes(b, tagStoredGone, id[:])
		}
	}
	for _, id := range sortedIDs(t.owners) {
		o := t.owners[id]
		if o == t.own {
			continue
		}
		b = appendPeer(b, o)
		if !o.at.IsZero() {
			for _, s := range o.whole() {
				b = appendBytes(b, tagStoredSection, s.append(nil))
			}
		}
		if o.hidden && o.status != discovery.StatusLeft {
			b = appendBytes(b, tagStoredHidden, id[:])
		}
	}
	return b, nil
}

func appendPeer(b []byte, o *owner) []byte {
	if !o.gossip.IsValid() || o.status == discovery.StatusLeft {
		return b
	}
	v := append(slices.Clone(o.id[:]), o.gossip.Addr().AsSlice()...)
	return appendBytes(b, tagStoredPeer, binary.BigEndian.AppendUint16(v, o.gossip.Port()))
}

func sortedIDs[V any](m map[discovery.HostID]V) []discovery.HostID {
	return slices.SortedFunc(maps.Keys(m), func(a, b discovery.HostID) int { return bytes.Compare(a[:], b[:]) })
}

// restore reads what MarshalBinary wrote. The owners in it count as alive for
// a while, so that a restarted agent serves what it served before. It returns
// the incarnation of the agent that wrote it.
func (t *Table) restore(b []byte) (inc uint64, err error) {
	if len(b) == 0 || b[0] != storedFormat {
		return 0, fmt.Errorf("format %x: %w", b[:min(len(b), 1)], discovery.ErrMalformed)
	}
	var hidden []discovery.HostID
	_, err = fields(b[1:], "table", func(f field) (bool, error) {
		var err error
		switch f.tag {
		case tagStoredInc:
			inc = f.num
		case tagStoredGone:
			var id discovery.HostID
			err = f.into(id[:])
			t.gone[id], t.goneName[ShortOf(id)] = struct{}{}, id
		case tagStoredPeer:
			err = t.restorePeer(f.bytes)
		case tagStoredSection:
			err = t.restoreSection(f.bytes)
		case tagStoredHidden:
			var id discovery.HostID
			err = f.into(id[:])
			hidden = append(hidden, id)
		}
		return true, err
	})
	for _, id := range hidden {
		t.restoreHidden(id)
	}
	return inc, err
}

// restoreHidden makes an owner from the disk one that is waited for like the
// others, since it may be back: until then the table is not complete and nothing
// of it is taken down. Its names stay hidden until it is seen alive.
func (t *Table) restoreHidden(id discovery.HostID) {
	o := t.owners[id]
	if o == nil || !o.restored {
		return
	}
	o.status, o.hidden = discovery.StatusSuspect, true
	o.header.Flags &^= discovery.FlagBackSoon // what its goodbye granted is over
}

func (t *Table) restorePeer(b []byte) error {
	if len(b) < len(discovery.HostID{}) {
		return fmt.Errorf("peer of %d bytes: %w", len(b), discovery.ErrMalformed)
	}
	at, err := field{bytes: b[len(discovery.HostID{}):]}.addrPort()
	if id := discovery.HostID(b[:16]); err == nil && id != t.self {
		t.restored(id).gossip = at
	}
	return err
}

func (t *Table) restoreSection(b []byte) error {
	r := &reader{b: b}
	s := r.section()
	if r.err != nil || s.Owner == t.self || t.Forgotten(s.Owner) {
		return r.err
	}
	o := t.restored(s.Owner)
	if t.collect(o, s) == gap {
		return fmt.Errorf("state of %s: %w", s.Owner, discovery.ErrMalformed)
	}
	o.pulled = false // it is a memory, nobody showed it
	if o.header.Flags&discovery.FlagGone != 0 {
		o.restored, o.status = false, discovery.StatusLeft
	}
	return nil
}

func (t *Table) restored(id discovery.HostID) *owner {
	o := t.add(id)
	o.restored, o.status, o.hidden = true, discovery.StatusAlive, false
	return o
}
