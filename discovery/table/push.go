package table

import (
	"bytes"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// burst is how many datagrams one change may need before members are asked to
// pull it instead.
const burst = 16

// Flush pushes the own changes since the last call to every alive member. The
// caller waits a little first, so that changes made together travel together.
func (x *Exchange) Flush() {
	if !x.Unsent() {
		return
	}
	bodies := x.changesSince(x.sent)
	x.sent = x.t.OwnVersion()
	members := x.alive()
	if len(members) == 0 {
		return
	}
	asked := members[x.rand.IntN(len(members))]
	for _, id := range members {
		x.push(id, bodies, id == asked)
	}
}

// Unsent reports whether Flush would send something.
func (x *Exchange) Unsent() bool { return x.sent != x.t.OwnVersion() && !x.Silent() }

// changesSince returns the messages that bring a member from a version of the
// own state to the newest one.
func (x *Exchange) changesSince(from Version) [][]byte {
	self, at := shortOf(x.t.own.id), x.t.OwnVersion()
	if from.Inc == at.Inc {
		if ds, ok := x.t.state.deltas(self, at, from.Ver, burst); ok {
			bodies := make([][]byte, len(ds))
			for i, d := range ds {
				bodies[i] = d.Append(nil)
			}
			return bodies
		}
	}
	return [][]byte{announce{Owner: self, At: at}.Append(nil)}
}

// push sends what changesSince returned, the last delta with a request to confirm.
func (x *Exchange) push(to discovery.HostID, bodies [][]byte, confirm bool) {
	for i, b := range bodies {
		kind := Kind(b[0])
		if confirm && kind == KindDelta && i == len(bodies)-1 {
			b = bytes.Clone(b)
			b[0] |= confirmBit
		}
		x.out = append(x.out, Packet{To: to, Kind: kind, Body: b})
	}
}

// Behind returns the alive members that have not shown the newest own version.
func (x *Exchange) Behind() []discovery.HostID {
	return slices.DeleteFunc(x.alive(), func(id discovery.HostID) bool { return x.HeldBy(id) == x.t.OwnVersion() })
}

// Retry pushes the newest own version again to every member that has not
// shown it, for a host that is about to stop.
func (x *Exchange) Retry() {
	if x.Silent() {
		return
	}
	for _, id := range x.Behind() {
		x.push(id, x.changesSince(x.HeldBy(id)), true)
	}
}

// Established reports whether any other member holds a state of this incarnation.
func (x *Exchange) Established() bool {
	for _, o := range x.t.owners.byID {
		if o != x.t.own && o.holds.Inc == x.t.own.at.Inc {
			return true
		}
	}
	return false
}

// HeldBy returns the newest version of the own state that the member has
// shown, zero when none.
func (x *Exchange) HeldBy(id discovery.HostID) Version {
	if o := x.t.owners.byID[id]; o != nil {
		return o.holds
	}
	return Version{}
}
