package table

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Packet is a message that Exchange wants sent.
type Packet struct {
	To       discovery.HostID
	Reliable bool // over TCP; else one datagram that may be lost
	Kind     Kind
	Body     []byte
}

// Stats counts what an Exchange met.
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
// Like the Table, which its caller changes beside it, it does no I/O and is not
// safe for concurrent use.
type Exchange struct {
	*shared
	pulls    *puller
	digests  *comparer
	confirms *confirmer

	sent     Version                        // newest own version that was pushed
	waiting  map[discovery.HostID]struct{}  // owners that want to hear which version is held
	toldGone map[discovery.HostID]time.Time // forgotten hosts, and when they were told so
	goneSaid string                         // the member that said last that this host is forgotten
}

// shared is what the parts of an Exchange have in common.
type shared struct {
	t     *Table
	out   []Packet // messages that wait to be taken
	rand  *rand.Rand
	slow  time.Duration // stretches the periods of digests and pulls
	stats Stats
}

// NewExchange returns an Exchange for t. Stretch multiplies the period of
// digests: 1 on a LAN, 2 over long distances.
func NewExchange(t *Table, stretch int, seed uint64) *Exchange {
	s := &shared{t: t, rand: rand.New(rand.NewPCG(seed, 1)), slow: time.Duration(stretch)}
	x := &Exchange{shared: s, pulls: &puller{shared: s, wants: map[short]*want{}},
		waiting: map[discovery.HostID]struct{}{}, toldGone: map[discovery.HostID]time.Time{}}
	x.confirms = &confirmer{shared: s, pulls: x.pulls, asked: map[discovery.HostID]time.Time{}}
	x.digests = &comparer{shared: s, pulls: x.pulls, confirms: x.confirms, fruitless: map[[2]uint64]time.Time{}}
	return x
}

// Take returns the messages to send since the last call, oldest first.
func (x *Exchange) Take() []Packet {
	out := x.out
	x.out = nil
	return out
}

func (s *shared) send(to discovery.HostID, reliable bool, m message) {
	body := m.Append(nil)
	s.out = append(s.out, Packet{To: to, Reliable: reliable, Kind: Kind(body[0] &^ (confirmBit | completeBit)), Body: body})
}

// alive returns the other members that take part, sorted.
func (s *shared) alive() []discovery.HostID { return s.t.owners.othersAlive(s.t.own.id) }

func (s *shared) isAlive(id discovery.HostID) bool {
	o := s.t.owners.byID[id]
	return o != nil && o != s.t.own && !down(o.status)
}

// shown notes a version of the own state that another member holds. One that
// this agent did not write makes it raise its incarnation.
func (s *shared) shown(by discovery.HostID, v Version) {
	if !s.t.show(by, v) {
		s.stats.Refutes++
		s.t.refute(v)
	}
}

// Silent reports whether the own host was forgotten, as Table.Forget was told: it
// announces nothing.
func (x *Exchange) Silent() bool { return x.t.Forgotten(x.t.own.id) }

// GoneSaid returns the member that said, since the last call, that this host is
// forgotten; "" when none did. It is a hint to ask the pool.
func (x *Exchange) GoneSaid() (by string) {
	by, x.goneSaid = x.goneSaid, ""
	return by
}

// Ask makes a member answer this host, with what it has of its own state beyond what
// is held here: an empty answer too comes to where the member holds this host.
func (x *Exchange) Ask(id discovery.HostID) {
	if o := x.t.owners.byID[id]; o != nil {
		x.send(id, true, pull{From: x.t.own.id, Owners: []pullEntry{{shortOf(id), o.at}}})
	}
}

// Stats returns the counters now.
func (x *Exchange) Stats() Stats { return x.stats }

// Ack returns what to add to the answer of a probe.
func (x *Exchange) Ack() []byte {
	return ack{Root: x.t.Root(), At: x.t.OwnVersion(), Owners: uint64(x.t.Owners())}.Append(nil)
}

// Acked compares the payload of a probe's answer with the table.
func (x *Exchange) Acked(now time.Time, from discovery.HostID, payload []byte) error {
	a, err := parseAck(payload)
	if err != nil {
		x.stats.Malformed++
		return err
	}
	o := x.t.owners.byID[from]
	if o == nil || o == x.t.own || x.Silent() {
		return nil
	}
	if a.Root == x.t.Root() {
		x.t.show(from, x.t.OwnVersion())
		x.t.confirm(o)
		x.confirms.confirmAll(now, false)
		return nil
	}
	switch c := a.At.Compare(o.at); {
	case c > 0:
		x.pulls.want(now, shortOf(from), a.At, from)
	case c < 0:
		// The owner has lost its memory: being asked for what is newer than
		// what it has, it raises its incarnation.
		x.send(from, true, pull{From: x.t.own.id, Owners: []pullEntry{{shortOf(from), o.at}}})
	default:
		x.digests.compareOnce(now, from, a.Root)
	}
	return nil
}

// Started notes the incarnation that a member began with. What could not be
// pulled from it before can be now.
func (x *Exchange) Started(now time.Time, id discovery.HostID, inc uint64) {
	if id != x.t.own.id {
		x.pulls.want(now, shortOf(id), Version{Inc: inc, Ver: 1}, discovery.HostID{})
		x.pulls.retry(now, shortOf(id))
	}
}

// Tick does what time brings: it hides names, and asks for what is wanted. It
// is to be called every few ten milliseconds.
func (x *Exchange) Tick(now time.Time) {
	x.t.Expire(now)
	x.digests.expire(now)
	if !x.Silent() {
		x.readAgain(now)
		x.pulls.pullDue(now)
		x.confirms.askOwners(now)
		x.digests.spreadRepair(now)
	}
}

// readAgain asks the owners that announced too much for their whole state, when
// their pause is over: it may fit by now.
func (x *Exchange) readAgain(now time.Time) {
	for _, o := range x.t.limit.due(&x.t.owners) {
		x.pulls.wantWhole(now, shortOf(o.id), o.at)
	}
}

// Idle reports that Tick has nothing under way that is to be repeated soon: only the
// time of owners passes.
func (x *Exchange) Idle() bool {
	return len(x.pulls.wants) == 0 && x.digests.spreads == 0 && (x.t.complete || x.t.joining)
}

// Compare asks the member for its digest, by sending the own.
func (x *Exchange) Compare(with discovery.HostID) { x.digests.compare(with) }

// Digest returns the message that lists what the table holds, in bucket hashes
// when it is much.
func (x *Exchange) Digest() []byte { return x.digests.digest().Append(nil) }

func (x *Exchange) String() string {
	return fmt.Sprintf("%s at %s, root %016x", x.t.Self(), x.t.OwnVersion(), x.t.Root())
}
