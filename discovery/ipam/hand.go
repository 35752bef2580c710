package ipam

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

// hand is what this host has of a network in hand: its blocks, and the addresses
// in use. It waits for nothing and asks nobody; network.mu guards it.
type hand struct {
	blocks []*block                // oldest first
	held   map[netip.Addr]*holding // every address in use: leased, lent, or being given back
	owners map[ownerKey]*holding
	lent   map[netip.Addr]*holding // to come into force when the address is released
}

// ownerKey is an endpoint and a family: it has one address of each.
type ownerKey struct {
	id discovery.EndpointID
	v6 bool
}

// holding is one address in use, or an owner's slot before it has one.
type holding struct {
	addr     netip.Addr
	state    addressState
	owner    discovery.EndpointID
	host     discovery.HostID // lent: to whom; leased and reserved: the lender
	reserved bool
	seq      uint64
	loan     uint64
	busy     bool           // something is being done to it, network.wait waits for the end
	back     *pendingReturn // it is being given back
	gen      uint64         // when it was last lent, confirmed or leased, for reads that began before
	since    time.Time      // lent: when; zero after a restart
}

func (h *holding) record() addressRecord {
	return addressRecord{State: h.state, Owner: h.owner, Host: h.host, Reserved: h.reserved, Seq: h.seq, Loan: h.loan}
}

func newHand() hand {
	return hand{held: map[netip.Addr]*holding{}, owners: map[ownerKey]*holding{}, lent: map[netip.Addr]*holding{}}
}

// blockOf returns our block that covers a, nil if none does.
func (h *hand) blockOf(a netip.Addr) *block {
	for _, b := range h.blocks {
		if b.Prefix.Contains(a) {
			return b
		}
	}
	return nil
}

// open yields the blocks that any address may be taken from, which is an IPv4
// one.
func (h *hand) open() iter.Seq[*block] {
	return func(yield func(*block) bool) {
		for _, b := range h.blocks {
			if !b.lost && b.Prefix.Addr().Is4() && !yield(b) {
				return
			}
		}
	}
}

func (h *hand) openBlocks() (n int) {
	for range h.open() {
		n++
	}
	return n
}

// take gives x an address out of the blocks in hand. It fills the older blocks
// first, so that the newer ones can drain.
func (h *hand) take(x *holding, now time.Time) bool {
	for b := range h.open() {
		if a, ok := b.take(now); ok {
			h.hold(x, a, b.Seq)
			return true
		}
	}
	return false
}

// hold notes that x has a.
func (h *hand) hold(x *holding, a netip.Addr, seq uint64) {
	x.addr, x.seq = a, seq
	h.held[a] = x
}

// release ends the use of an address.
func (h *hand) release(x *holding, saved bool) {
	if lent := h.lent[x.addr]; lent != nil {
		delete(h.lent, x.addr)
		h.held[x.addr] = lent
		return
	}
	delete(h.held, x.addr)
	if b := h.blockOf(x.addr); b != nil {
		b.put(x.addr, time.Now(), saved)
	}
}

// untake undoes take: what could not be written down was never given.
func (h *hand) untake(x *holding) {
	delete(h.held, x.addr)
	if b := h.blockOf(x.addr); b != nil {
		b.undo(x.addr, time.Now())
	}
}

// holdBack keeps g's address from being given before g is done. An address
// that is leased by itself stays so.
func (h *hand) holdBack(g *pendingReturn) {
	a := g.what.Addr
	if h.held[a] != nil {
		return
	}
	if b := h.blockOf(a); b != nil {
		b.takeThis(a)
	}
	h.held[a] = &holding{addr: a, reserved: true, back: g}
}

// lend notes a loan that is being written down.
func (h *hand) lend(to discovery.HostID, a netip.Addr, loan, seq, gen uint64) *holding {
	x := &holding{addr: a, state: stateLent, host: to, loan: loan, seq: seq, gen: gen, since: time.Now(), busy: true}
	h.held[a] = x
	return x
}

// loanOf finds what a RETURN speaks of.
func (h *hand) loanOf(from discovery.HostID, r request) *holding {
	if r.addr.IsValid() {
		if x := h.held[r.addr]; x != nil && x.state == stateLent && x.host == from {
			return x
		}
		return nil
	}
	for _, x := range h.held {
		if x.state == stateLent && x.host == from && x.loan == r.loan {
			return x
		}
	}
	return nil
}

// insert puts a block into hand, false when it is there already. What is held of
// it, because it was reserved before, is in use.
func (h *hand) insert(b *block, lent []*holding) bool {
	if slices.ContainsFunc(h.blocks, func(o *block) bool { return o.Prefix == b.Prefix }) {
		return false
	}
	for _, x := range lent {
		if h.held[x.addr] == nil {
			h.held[x.addr] = x
		} else {
			h.lent[x.addr] = x // this host is just asking for it, in vain
		}
	}
	for a := range h.held {
		if b.Prefix.Contains(a) {
			b.takeThis(a)
		}
	}
	h.blocks = append(h.blocks, b)
	return true
}

// cutDrained takes one drained block out of hand, so that nobody gets an
// address of it any more; nil when there is none.
func (h *hand) cutDrained(now time.Time) *block {
	for i, b := range h.blocks {
		if at, ok := b.drained(); ok && !now.Before(at) && h.spare(b) {
			h.blocks = append(h.blocks[:i:i], h.blocks[i+1:]...)
			return b
		}
	}
	return nil
}

// spare reports whether the network does without b: what is left would not at
// once want another block ahead of need.
func (h *hand) spare(b *block) bool {
	used, size := 0, 0
	for o := range h.open() {
		if o != b {
			used, size = used+o.used, size+o.size
		}
	}
	return used == 0 || b.single() || b.lost || used*4 < size*3
}

// nearlyUsedUp reports whether three quarters of the addresses in hand are in
// use. Blocks of one address are not claimed ahead, so with them it is false.
func (h *hand) nearlyUsedUp() bool {
	used, size, single := 0, 0, false
	for b := range h.open() {
		used, size, single = used+b.used, size+b.size, single || b.single()
	}
	return size > 0 && !single && used*4 >= size*3
}

// nextFree is when the next quarantine of an address in hand ends; zero when no
// address is in quarantine.
func (h *hand) nextFree() (next time.Time) {
	for b := range h.open() {
		if at, ok := b.ready(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
