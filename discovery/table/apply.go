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
func (t *Table) applyDelta(d Delta) outcome {
	o := t.lookup(d.Owner)
	if o == nil || o == t.own {
		if _, refused := t.goneName[d.Owner]; refused || o == t.own {
			return ignored
		}
		return gap
	}
	switch {
	case d.Inc < o.at.Inc, d.Inc == o.at.Inc && d.To <= o.at.Ver:
		return ignored
	case d.Inc > o.at.Inc, d.From > o.at.Ver:
		o.hold(d)
		return gap
	}
	if t.applyOps(o, d.Ops, o.at.Ver) != nil {
		return gap
	}
	t.setVersion(o, Version{d.Inc, d.To})
	t.confirm(o)
	t.applyHeld(o)
	return applied
}

// hold keeps a delta that came before the one it follows: UDP and the
// receiving queue both reorder, and a pull costs a connection.
func (o *owner) hold(d Delta) {
	if d.To > d.From && len(o.held) < heldDeltas {
		o.held = append(o.held, d)
	}
}

// applyHeld applies the kept deltas that follow the state now held, and drops
// those that it overtook.
func (t *Table) applyHeld(o *owner) {
	o.held = slices.DeleteFunc(o.held, func(d Delta) bool {
		return d.Inc < o.at.Inc || d.Inc == o.at.Inc && d.To <= o.at.Ver
	})
	for i, d := range o.held {
		if d.Inc == o.at.Inc && d.From <= o.at.Ver {
			o.held = slices.Delete(o.held, i, i+1)
			t.applyDelta(d)
			return // which goes on with the rest
		}
	}
}

// applyOps applies the ops newer than after. An op that does not decode stops
// it; the owner is then pulled whole.
func (t *Table) applyOps(o *owner, ops []Op, after uint64) error {
	for _, op := range ops {
		if op.Ver <= after {
			continue
		}
		if err := t.applyOp(o, op); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) applyOp(o *owner, op Op) error {
	switch op.Kind {
	case OpDelete:
		t.remove(o, op.ID)
	case OpHeader:
		h, err := parseHeader(op.Raw)
		if err != nil {
			return err
		}
		t.setHeader(o, h, slices.Clone(op.Raw))
	case OpUpsert:
		e, err := parseEndpoint(op.ID, op.Raw)
		if err != nil {
			return err
		}
		t.upsert(o, entry{Endpoint: e, raw: slices.Clone(op.Raw), ver: op.Ver})
	}
	return nil
}

// applySection applies the answer to a pull.
func (t *Table) applySection(s Section) outcome {
	if s.Owner == t.self || s.At.IsZero() || t.Forgotten(s.Owner) {
		return ignored
	}
	o := t.add(s.Owner)
	switch c := s.At.Compare(o.at); {
	case c < 0, c == 0 && s.CRC == o.crc:
		return ignored
	case s.From > 0:
		return t.applySlice(o, s)
	default:
		return t.collect(o, s)
	}
}

// applySlice applies the part of the owner's log that was missing.
func (t *Table) applySlice(o *owner, s Section) outcome {
	if s.At.Inc != o.at.Inc || s.From > o.at.Ver || t.applyOps(o, s.Ops, o.at.Ver) != nil {
		return gap
	}
	t.setVersion(o, s.At)
	t.applyHeld(o)
	if o.at == s.At && o.crc != s.CRC {
		return gap
	}
	return applied
}

// collect waits for all parts of a whole state.
func (t *Table) collect(o *owner, s Section) outcome {
	if s.Parts <= 1 {
		return t.replace(o, s)
	}
	if first, ok := o.anyPart(); ok && (first.At != s.At || first.Parts != s.Parts) {
		o.parts = nil
	}
	if o.parts == nil {
		o.parts = map[uint64]Section{}
	}
	o.parts[s.Part] = s
	if uint64(len(o.parts)) < s.Parts {
		return ignored
	}
	whole := s
	whole.Ops = nil
	for _, p := range o.parts {
		whole.Ops = append(whole.Ops, p.Ops...)
	}
	return t.replace(o, whole)
}

func (o *owner) anyPart() (Section, bool) {
	for _, s := range o.parts {
		return s, true
	}
	return Section{}, false
}

// replace puts a whole state in the place of the held one. Until here the old
// entries stayed, and what is equal in both is not touched.
func (t *Table) replace(o *owner, s Section) outcome {
	o.parts = nil
	keep := make(map[discovery.EndpointID]bool, len(s.Ops))
	for _, op := range s.Ops {
		if err := t.applyOp(o, op); err != nil {
			return gap
		}
		if op.Kind == OpUpsert {
			keep[op.ID] = true
		}
	}
	for id := range o.eps {
		if !keep[id] {
			t.remove(o, id)
		}
	}
	t.setVersion(o, s.At)
	t.applyHeld(o)
	return applied
}

// confirm notes that the state which is held is no memory from the disk any more.
func (t *Table) confirm(o *owner) {
	if !o.pulled {
		o.pulled = true
		t.checkComplete()
	}
}
