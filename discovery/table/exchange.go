package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

// burst is how many datagrams one change may need before members are asked to
// pull it instead.
const burst = 16

// Packet is a message that Exchange wants sent.
type Packet struct {
	To       discovery.HostID
	Reliable bool // over TCP; else one datagram that may be lost
	Kind     Kind
	Body     []byte
}

// ExchangeStats counts what an Exchange met.
type Stats struct {
	Malformed uint64 // messages that did not decode
	Refused   uint64 // messages of forgotten hosts
	Gaps      uint64 // deltas that came before one they follow
	Pulls     uint64 // states asked for
	Digests   uint64 // comparisons started
	Refutes   uint64 // times the own incarnation was raised
}

// Exchange keeps a Table equal to those of the other members: it turns
// received messages and passing time into changes of the table and messages to
// send. A change is pushed once to every alive member; whatever that misses is
// found by comparing digests and pulled.
//
// Like the Table inside, it does no I/O and is not safe for concurrent use.
type Exchange struct {
	*Table
	Stats Stats

	rand        *rand.Rand
	slow        time.Duration // stretches the periods of digests and pulls
	sent        Version
	out         []Packet
	wants       map[Short]*want
	nextDigest  time.Time
	rumours     int // comparisons to start on our own
	settled     map[[2]uint64]time.Time
	answered    map[discovery.HostID]time.Time // forgotten hosts told so
	forgottenBy string
}

// NewExchange returns an Exchange around t. Stretch multiplies the period of
// digests: 1 on a LAN, 2 over long distances.
func NewExchange(t *Table, stretch int, seed uint64) *Exchange {
	return &Exchange{Table: t, rand: rand.New(rand.NewPCG(seed, 1)), slow: time.Duration(stretch),
		wants: map[Short]*want{}, settled: map[[2]uint64]time.Time{}, answered: map[discovery.HostID]time.Time{}}
}

// Take returns the messages to send since the last call, oldest first.
func (x *Exchange) Take() []Packet {
	out := x.out
	x.out = nil
	return out
}

func (x *Exchange) send(to discovery.HostID, reliable bool, m Message) {
	body := m.Append(nil)
	x.out = append(x.out, Packet{To: to, Reliable: reliable, Kind: Kind(body[0] &^ (confirmBit | completeBit)), Body: body})
}

// alive returns the other members that take part, sorted.
func (x *Exchange) alive() []discovery.HostID {
	var out []discovery.HostID
	for id, o := range x.owners {
		if id != x.self && !down(o.status) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b discovery.HostID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

func (x *Exchange) isAlive(id discovery.HostID) bool {
	o := x.owners[id]
	return o != nil && id != x.self && !down(o.status)
}

// Silent reports whether the own host was forgotten: it announces nothing.
func (x *Exchange) Silent() bool { return x.Forgotten(x.self) }

// ForgottenBy returns the member that said that this host is forgotten, or "".
func (x *Exchange) ForgottenBy() string { return x.forgottenBy }

// Flush pushes the own changes since the last call to every alive member. The
// caller waits a little first, so that changes made together travel together.
func (x *Exchange) Flush() {
	at := x.OwnVersion()
	if !x.Unsent() {
		return
	}
	ms := x.push(x.sent)
	x.sent = at
	members := x.alive()
	if len(members) == 0 {
		return
	}
	asked := members[x.rand.IntN(len(members))]
	for _, id := range members {
		x.pushTo(id, ms, id == asked)
	}
}

// Unsent reports whether Flush would send something.
func (x *Exchange) Unsent() bool { return x.sent != x.OwnVersion() && !x.Silent() }

// pushTo sends what push returned, the last delta with a request to confirm.
func (x *Exchange) pushTo(id discovery.HostID, bodies [][]byte, confirm bool) {
	for i, b := range bodies {
		kind := Kind(b[0])
		if confirm && kind == KindDelta && i == len(bodies)-1 {
			b = bytes.Clone(b)
			b[0] |= confirmBit
		}
		x.out = append(x.out, Packet{To: id, Kind: kind, Body: b})
	}
}

// push returns the messages that bring a member from a version of ours to the
// newest one.
func (x *Exchange) push(from Version) [][]byte {
	at := x.OwnVersion()
	if from.Inc == at.Inc {
		if ds, ok := x.deltas(from.Ver, burst); ok {
			bodies := make([][]byte, len(ds))
			for i, d := range ds {
				bodies[i] = d.Append(nil)
			}
			return bodies
		}
	}
	return [][]byte{Announce{Owner: ShortOf(x.self), At: at}.Append(nil)}
}

// Behind returns the alive members that have not shown the newest own version.
func (x *Exchange) Behind() []discovery.HostID {
	return slices.DeleteFunc(x.alive(), func(id discovery.HostID) bool { return x.owners[id].holds == x.OwnVersion() })
}

// Insist pushes the newest own version again to every member that has not
// shown it, for a host that is about to stop.
func (x *Exchange) Insist() {
	if x.Silent() {
		return
	}
	for _, id := range x.Behind() {
		x.pushTo(id, x.push(x.owners[id].holds), true)
	}
}

// HeldBy returns the newest version of the own state that the member has
// shown, zero when none.
func (x *Exchange) HeldBy(id discovery.HostID) Version {
	if o := x.owners[id]; o != nil {
		return o.holds
	}
	return Version{}
}

// Ack returns what to add to the answer of a probe.
func (x *Exchange) Ack() []byte {
	return Ack{Root: x.root, At: x.OwnVersion(), Owners: uint64(x.Owners())}.Append(nil)
}

// Receive handles one message. Calls and replies are the caller's; everything
// else is handled here. The error wraps ErrMalformed.
func (x *Exchange) Receive(now time.Time, b []byte) (Message, error) {
	m, err := Parse(b)
	if err != nil {
		x.Stats.Malformed++
		return nil, err
	}
	if x.Silent() || x.refused(now, m) {
		return nil, nil
	}
	switch m := m.(type) {
	case Delta:
		x.receiveDelta(now, m)
	case Announce:
		if x.lookup(m.Owner) != x.own {
			x.wantVersion(now, m.Owner, m.At, discovery.HostID{})
		}
	case Seen:
		x.seen(x.byShort[m.From], m.At)
	case Digest:
		x.receiveDigest(now, m)
	case Pull:
		x.receivePull(m)
	case State:
		x.receiveState(now, m)
	case Gone:
		if m.ID == x.self {
			x.forgottenBy = m.By
			x.Forget([]discovery.HostID{x.self})
		}
	}
	return m, nil
}

func (x *Exchange) refused(now time.Time, m Message) bool {
	id, ok := x.goneName[sender(m)]
	if ok {
		x.Stats.Refused++
		x.TellGone(now, id)
	}
	return ok
}

// TellGone tells a forgotten host that it is, once a second at most.
func (x *Exchange) TellGone(now time.Time, id discovery.HostID) {
	if now.Sub(x.answered[id]) >= time.Second {
		x.answered[id] = now
		x.send(id, true, Gone{ID: id, By: x.own.header.Name})
	}
}

func sender(m Message) Short {
	switch m := m.(type) {
	case Delta:
		return m.Owner
	case Announce:
		return m.Owner
	case Seen:
		return m.From
	case Digest:
		return ShortOf(m.From)
	case Pull:
		return ShortOf(m.From)
	case State:
		return ShortOf(m.From)
	case Call:
		return ShortOf(m.From)
	}
	return Short{}
}

func (x *Exchange) receiveDelta(now time.Time, d Delta) {
	if x.applyDelta(d) == gap {
		x.Stats.Gaps++
		// The delta before it may be on its way: wait for it a moment.
		x.wantVersion(now.Add(gapWait), d.Owner, Version{d.Inc, d.To}, discovery.HostID{})
	}
	if o := x.lookup(d.Owner); o != nil && o != x.own {
		o.asked = o.asked || d.Confirm
		if w := x.wants[d.Owner]; w == nil || o.at.Compare(w.shown) >= 0 {
			x.answerSeen(o)
		}
	}
}

// answerSeen tells the owner which version of its state is held, when it
// waits for that.
func (x *Exchange) answerSeen(o *owner) {
	if o.asked {
		o.asked = false
		x.send(o.id, false, Seen{From: ShortOf(x.self), At: o.at})
	}
}

// seen notes a version of ours that another member holds.
func (x *Exchange) seen(by discovery.HostID, v Version) {
	if !x.show(by, v) {
		x.Stats.Refutes++
		x.refute(v)
	}
}

func (x *Exchange) String() string {
	return fmt.Sprintf("%s at %s, root %016x", x.self, x.OwnVersion(), x.root)
}

// Started notes the incarnation that a member began with. What could not be
// pulled from it before can be now.
func (x *Exchange) Started(now time.Time, id discovery.HostID, inc uint64) {
	if id == x.self {
		return
	}
	x.wantVersion(now, ShortOf(id), Version{Inc: inc, Ver: 1}, discovery.HostID{})
	if w := x.wants[ShortOf(id)]; w != nil {
		w.at, w.tries = now, 0
	}
}
