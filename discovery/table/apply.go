package table

import (
	"slices"

	"github.com/weft-net/weft/discovery"
)

// outcome is what became of a received state.
type outcome int

const (
	ignored outcome = iota // older than what is held, or of a host that is refused
	applied
	gap // something before it is missing: pull
)

// applyDelta follows an owner from one version to the next. Deltas overlap
// when one was lost and sent again: each op names its version, so what is
// known already is passed over.
func (t *Table) applyDelta(d delta) outcome {
	o := t.owners.lookup(d.Owner)
	if o == nil || o == t.own {
		if t.forgotten.hasShort(d.Owner) || o == t.own {
			return ignored
		}
		return gap
	}
	switch {
	case t.limit.pauses(o), d.Inc < o.at.Inc, d.Inc == o.at.Inc && d.To <= o.at.Ver:
		return ignored
	case d.Inc > o.at.Inc, d.From > o.at.Ver:
		o.keepEarly(d)
		return gap
	}
	if got := t.applyOps(o, d.Ops, o.at.Ver); got != applied {
		return got
	}
	t.setVersion(o, Version{d.Inc, d.To})
	t.confirm(o)
	t.applyEarly(o)
	return applied
}

// applyEarly applies the kept deltas that follow the state now held.
func (t *Table) applyEarly(o *owner) {
	if d, ok := o.nextEarly(); ok {
		t.applyDelta(d) // which goes on with the rest
	}
}

// applyOps applies the ops newer than after. It stops at an op that does not decode:
// the owner is then pulled whole; and at one that is too much of one owner.
func (t *Table) applyOps(o *owner, ops []op, after uint64) outcome {
	for _, op := range ops {
		if op.Ver <= after {
			continue
		}
		if op.Kind == opUpsert && !t.limit.room(o, op) {
			t.limit.mark(o, true)
			t.changed()
			return ignored
		}
		if err := t.applyOp(o, op); err != nil {
			return gap
		}
	}
	return applied
}

func (t *Table) applyOp(o *owner, op op) error {
	switch op.Kind {
	case opDelete:
		t.remove(o, op.ID)
	case opHeader:
		h, err := parseHeader(op.Raw)
		if err != nil {
			return err
		}
		t.setHeader(o, h, slices.Clone(op.Raw))
	case opUpsert:
		e, err := parseEndpoint(op.ID, op.Raw)
		if err != nil {
			return err
		}
		t.upsert(o, entry{Endpoint: e, raw: slices.Clone(op.Raw), ver: op.Ver})
	}
	return nil
}

// applySection applies the answer to a pull.
func (t *Table) applySection(s section) outcome {
	if s.Owner == t.own.id || s.At.IsZero() || t.forgotten.has(s.Owner) {
		return ignored
	}
	o := t.owners.admitted(s.Owner, false)
	if o == nil || t.limit.pauses(o) {
		return ignored
	}
	switch c := s.At.Compare(o.at); {
	case c < 0, c == 0 && s.CRC == o.crc:
		return ignored
	case s.From > 0:
		return t.applySlice(o, s)
	default:
		return t.applyWhole(o, s)
	}
}

// applySlice applies the part of the owner's log that was missing.
func (t *Table) applySlice(o *owner, s section) outcome {
	if s.At.Inc != o.at.Inc || s.From > o.at.Ver {
		return gap
	}
	if got := t.applyOps(o, s.Ops, o.at.Ver); got != applied {
		return got
	}
	t.setVersion(o, s.At)
	t.applyEarly(o)
	if o.at == s.At && o.crc != s.CRC {
		return gap
	}
	return applied
}

// applyWhole puts a whole state in the place of the held one, once all its parts
// are there. Until then the old entries stay, and what is equal in both is not
// touched.
func (t *Table) applyWhole(o *owner, s section) outcome {
	s, ok := o.collect(s, t.limit.fits)
	if !ok {
		return ignored
	}
	keep, taken := make(map[discovery.EndpointID]bool, min(len(s.Ops), t.limit.most)), 0
	for _, op := range s.Ops {
		if op.Kind == opUpsert {
			if taken += len(op.Raw); !t.limit.holds(len(keep)+1, taken) {
				continue
			}
			keep[op.ID] = true
		}
		if err := t.applyOp(o, op); err != nil {
			return gap
		}
	}
	for id := range o.eps {
		if !keep[id] {
			t.remove(o, id)
		}
	}
	t.setVersion(o, s.At)
	full := !t.limit.fits(s.Ops)
	if t.limit.mark(o, full) {
		t.changed()
	}
	if full {
		return ignored
	}
	t.applyEarly(o)
	return applied
}

// confirm notes that the held state is the owner's own word, and not only a memory
// from the disk.
func (t *Table) confirm(o *owner) {
	if !o.pulled {
		o.pulled = true
		t.checkComplete()
	}
}
