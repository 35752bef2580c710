package table

import (
	"slices"

	"github.com/weft-net/weft/discovery"
)

// logLength is how many changes an owner keeps to answer pulls with.
const logLength = 4096

// ownState is what the table keeps of its own host beside the state itself: the
// changes that led to the newest version, so that a member that is a few versions
// behind is sent these alone, and what the others have shown of it.
type ownState struct {
	log   []op   // own changes, oldest first
	floor uint64 // the version that the log begins after
	shown uint64 // newest version that another member has shown
}

func (s *ownState) add(op op) { s.log = append(s.log, op) }

// trim drops the oldest changes, above the log's length.
func (s *ownState) trim() {
	if over := len(s.log) - logLength; over > 0 {
		s.floor = s.log[over-1].Ver
		s.log = slices.Clone(s.log[over:])
	}
}

// since returns the changes after a version, the last one of each endpoint; ok
// is false when the log does not reach back that far.
func (s *ownState) since(ver uint64) (ops []op, ok bool) {
	if ver < s.floor {
		return nil, false
	}
	type key struct {
		kind opKind
		id   discovery.EndpointID
	}
	seen := map[key]bool{}
	for _, op := range slices.Backward(s.log) {
		if op.Ver <= ver {
			break
		}
		k := key{opUpsert, op.ID}
		if op.Kind == opHeader {
			k = key{opHeader, discovery.EndpointID{}}
		}
		if !seen[k] {
			seen[k] = true
			ops = append(ops, op)
		}
	}
	slices.Reverse(ops)
	return ops, true
}

// deltas returns the datagrams that carry the state of self from a version to
// the version at, cut where versions end; ok is false when they cannot.
func (s *ownState) deltas(self short, at Version, from uint64, limit int) (out []delta, ok bool) {
	ops, ok := s.since(from)
	if !ok {
		return nil, false
	}
	d := delta{Owner: self, Inc: at.Inc, From: from, To: from}
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].Ver == ops[0].Ver {
			n++
		}
		next := d
		next.Ops, next.To = append(slices.Clip(d.Ops), ops[:n]...), ops[0].Ver
		if len(next.Append(nil)) > maxDatagram {
			if len(d.Ops) == 0 || len(out) == limit {
				return nil, false
			}
			out = append(out, d)
			d = delta{Owner: d.Owner, Inc: d.Inc, From: d.To, To: d.To}
			continue
		}
		d, ops = next, ops[n:]
	}
	d.To = at.Ver
	return append(out, d), true
}

// sections returns what brings a member that has a version of the own state to
// the newest one: the changes where the log has them, else the whole state.
func (s *ownState) sections(own *owner, have Version) []section {
	slice := section{Owner: own.id, At: own.at, From: have.Ver, Parts: 1, CRC: own.crc}
	if have == own.at { // who asks wants to hear just that
		return []section{slice}
	}
	if have.Compare(own.at) < 0 && have.Inc == own.at.Inc && have.Ver > 0 {
		if ops, ok := s.since(have.Ver); ok && opsSize(ops) < maxState/2 {
			slice.Ops = ops
			return []section{slice}
		}
	}
	return own.sections(have)
}

func opsSize(ops []op) (n int) {
	for _, op := range ops {
		n += len(op.Raw) + 16
	}
	return n
}

// recordStatus is an entry's status in a view; confirm: it is an own one, and others
// could show that they hold it.
func (s *ownState) recordStatus(o *owner, e entry, confirm bool) discovery.EndpointStatus {
	switch {
	case confirm && e.ver > s.shown:
		return discovery.EndpointPending
	case o.status == discovery.StatusDead || o.status == discovery.StatusLeft:
		return discovery.EndpointSuspended // while only its agent is down, a host still carries it
	}
	return discovery.EndpointLive
}
