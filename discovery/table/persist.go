package table

import (
	"encoding/binary"
	"fmt"
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
	for _, id := range t.ForgottenHosts() {
		if id != t.own.id { // whether we are forgotten, each start is told anew
			b = appendBytes(b, tagStoredGone, id[:])
		}
	}
	for _, id := range sortedIDs(t.owners.byID) {
		o := t.owners.byID[id]
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

// restorer reads into a table what MarshalBinary wrote. The owners in it count
// as alive for a while, so that a restarted agent serves what it served before.
type restorer struct {
	t      *Table
	inc    uint64 // of the agent that wrote it
	hidden []discovery.HostID
}

// restore returns the incarnation of the agent that wrote b.
func restore(t *Table, b []byte) (inc uint64, err error) {
	if len(b) == 0 || b[0] != storedFormat {
		return 0, fmt.Errorf("format %x: %w", b[:min(len(b), 1)], discovery.ErrMalformed)
	}
	r := restorer{t: t}
	_, err = fields(b[1:], "table", r.field)
	for _, id := range r.hidden {
		r.hide(id)
	}
	return r.inc, err
}

func (r *restorer) field(f field) (known bool, err error) {
	var id discovery.HostID
	switch f.tag {
	case tagStoredInc:
		r.inc = f.num
	case tagStoredGone:
		err = f.into(id[:])
		r.t.forgotten.add(id)
	case tagStoredPeer:
		err = r.peer(f.bytes)
	case tagStoredSection:
		err = r.section(f.bytes)
	case tagStoredHidden:
		err = f.into(id[:])
		r.hidden = append(r.hidden, id)
	}
	return true, err
}

// hide makes an owner from the disk one that is waited for like the others,
// since it may be back: until then the table is not complete and nothing of it is
// taken down. Its names stay hidden until it is seen alive.
func (r *restorer) hide(id discovery.HostID) {
	o := r.t.owners.byID[id]
	if o == nil || !o.restored {
		return
	}
	o.status, o.hidden = discovery.StatusSuspect, true
	o.header.Flags &^= discovery.FlagBackSoon // what its goodbye granted is over
}

func (r *restorer) peer(b []byte) error {
	if len(b) < len(discovery.HostID{}) {
		return fmt.Errorf("peer of %d bytes: %w", len(b), discovery.ErrMalformed)
	}
	at, err := field{bytes: b[len(discovery.HostID{}):]}.addrPort()
	if id := discovery.HostID(b[:16]); err == nil && id != r.t.own.id {
		if o := r.owner(id); o != nil {
			o.gossip = at
		}
	}
	return err
}

func (r *restorer) section(b []byte) error {
	in := &reader{b: b}
	s := in.section()
	if in.err != nil || s.Owner == r.t.own.id || r.t.forgotten.has(s.Owner) {
		return in.err
	}
	o := r.owner(s.Owner)
	if o == nil {
		return nil
	}
	if r.t.applyWhole(o, s) == gap {
		return fmt.Errorf("state of %s: %w", s.Owner, discovery.ErrMalformed)
	}
	o.pulled = false // it is a memory, nobody showed it
	if o.left() {
		o.restored, o.status = false, discovery.StatusLeft
	}
	return nil
}

// owner returns an owner that counts as alive until gossip speaks of it; nil: it is
// not admitted.
func (r *restorer) owner(id discovery.HostID) *owner {
	o := r.t.owners.admitted(id, false)
	if o == nil {
		return nil
	}
	o.restored, o.status, o.hidden = true, discovery.StatusAlive, false
	return o
}
