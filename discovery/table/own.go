package table

import (
	"bytes"
	"maps"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Announce changes the own endpoints: one version for all of it, none when
// nothing differs.
func (t *Table) Announce(up []discovery.Endpoint, del []discovery.EndpointID) bool {
	at := Version{t.own.at.Inc, t.own.at.Ver + 1}
	n := len(t.log)
	for _, id := range del {
		if _, ok := t.own.eps[id]; ok {
			t.remove(t.own, id)
			t.log = append(t.log, Op{Kind: OpDelete, ID: id, Ver: at.Ver})
		}
	}
	for _, e := range up {
		e = normalEndpoint(e)
		raw := appendEndpoint(nil, e)
		if old, ok := t.own.eps[e.ID]; ok && bytes.Equal(old.raw, raw) {
			continue
		}
		t.upsert(t.own, entry{Endpoint: e, raw: raw, ver: at.Ver})
		t.log = append(t.log, Op{Kind: OpUpsert, ID: e.ID, Ver: at.Ver, Raw: raw})
	}
	return t.commit(at, len(t.log) > n)
}

// SetHeader changes the own header: one version if it differs afterwards. The
// hash of the forgotten hosts is the table's own and cannot be set.
func (t *Table) SetHeader(change func(*discovery.Header)) bool {
	h := cloneHeader(t.own.header)
	change(&h)
	h.GoneHash = t.goneHash()
	h = normalHeader(h)
	raw := appendHeader(nil, h)
	if bytes.Equal(raw, t.own.raw) {
		return false
	}
	at := Version{t.own.at.Inc, t.own.at.Ver + 1}
	t.setHeader(t.own, h, raw)
	t.log = append(t.log, Op{Kind: OpHeader, Ver: at.Ver, Raw: raw})
	return t.commit(at, true)
}

func (t *Table) commit(at Version, changed bool) bool {
	if !changed {
		return false
	}
	t.setVersion(t.own, at)
	if over := len(t.log) - logLength; over > 0 {
		t.logFloor = t.log[over-1].Ver
		t.log = slices.Clone(t.log[over:])
	}
	return true
}

// refute starts a new incarnation above one that another member showed: it
// was written by an earlier life of this host whose memory is lost.
func (t *Table) refute(seen Version) {
	at := Version{Inc: max(seen.Inc, t.own.at.Inc) + 1, Ver: 1}
	for id, e := range t.own.eps {
		e.ver = at.Ver
		t.own.eps[id] = e
	}
	t.log, t.logFloor, t.shown = nil, at.Ver, 0
	t.setVersion(t.own, at)
	t.endpointsChanged(t.own)
}

// show notes that another member holds this version of the own state. It
// reports false for a version that this agent does not remember to have
// written.
func (t *Table) show(by discovery.HostID, v Version) bool {
	if v.Compare(t.own.at) > 0 {
		return false
	}
	if o := t.owners[by]; o != nil && v.Compare(o.holds) > 0 {
		o.holds = v
	}
	if v.Inc == t.own.at.Inc && v.Ver > t.shown {
		t.shown = v.Ver
		t.endpointsChanged(t.own)
	}
	return true
}

// changesSince returns the own changes after a version, the last one of each
// endpoint; ok is false when the log does not reach back that far.
func (t *Table) changesSince(ver uint64) (ops []Op, ok bool) {
	if ver < t.logFloor {
		return nil, false
	}
	type key struct {
		kind OpKind
		id   discovery.EndpointID
	}
	seen := map[key]bool{}
	for _, op := range slices.Backward(t.log) {
		if op.Ver <= ver {
			break
		}
		k := key{OpUpsert, op.ID}
		if op.Kind == OpHeader {
			k = key{OpHeader, discovery.EndpointID{}}
		}
		if !seen[k] {
			seen[k] = true
			ops = append(ops, op)
		}
	}
	slices.Reverse(ops)
	return ops, true
}

// deltas returns the datagrams that carry the own state from a version to the
// newest one, cut where versions end; ok is false when they cannot.
func (t *Table) deltas(from uint64, limit int) (out []Delta, ok bool) {
	ops, ok := t.changesSince(from)
	if !ok {
		return nil, false
	}
	to := t.own.at.Ver
	d := Delta{Owner: ShortOf(t.self), Inc: t.own.at.Inc, From: from, To: from}
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].Ver == ops[0].Ver {
			n++
		}
		next := d
		next.Ops, next.To = append(slices.Clip(d.Ops), ops[:n]...), ops[0].Ver
		if len(next.Append(nil)) > MaxDatagram {
			if len(d.Ops) == 0 || len(out) == limit {
				return nil, false
			}
			out = append(out, d)
			d = Delta{Owner: d.Owner, Inc: d.Inc, From: d.To, To: d.To}
			continue
		}
		d, ops = next, ops[n:]
	}
	d.To = to
	return append(out, d), true
}

// sections returns the state of an owner newer than have, cut into parts that
// fit a State; nil when there is nothing newer.
func (t *Table) sections(o *owner, have Version) []Section {
	if o == t.own && have == o.at { // who asks wants to hear just that
		return []Section{{Owner: o.id, At: o.at, From: have.Ver, Parts: 1, CRC: o.crc}}
	}
	if o.at.IsZero() || have.Compare(o.at) >= 0 {
		return nil
	}
	if o == t.own && have.Inc == o.at.Inc {
		if ops, ok := t.changesSince(have.Ver); ok && have.Ver > 0 && opsSize(ops) < MaxState/2 {
			return []Section{{Owner: o.id, At: o.at, From: have.Ver, Parts: 1, CRC: o.crc, Ops: ops}}
		}
	}
	return o.whole()
}

func opsSize(ops []Op) (n int) {
	for _, op := range ops {
		n += len(op.Raw) + 16
	}
	return n
}

// whole returns the owner's full state.
func (o *owner) whole() []Section {
	ops := []Op{{Kind: OpHeader, Raw: o.raw}}
	ids := slices.SortedFunc(maps.Keys(o.eps), func(a, b discovery.EndpointID) int { return bytes.Compare(a[:], b[:]) })
	var out []Section
	size := len(o.raw)
	for _, id := range ids {
		raw := o.eps[id].raw
		if size += len(raw) + 16; size > MaxState/2 {
			out = append(out, Section{Ops: ops})
			ops, size = nil, len(raw)
		}
		ops = append(ops, Op{Kind: OpUpsert, ID: id, Raw: raw})
	}
	out = append(out, Section{Ops: ops})
	for i := range out {
		out[i].Owner, out[i].At, out[i].CRC = o.id, o.at, o.crc
		out[i].Part, out[i].Parts = uint64(i), uint64(len(out))
	}
	return out
}
