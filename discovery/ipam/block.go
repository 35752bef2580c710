package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

// block is one block of ours and which of its addresses are in use.
//
// A set bit is an address that the scan for a fresh one must pass over: in
// use, in quarantine, or the network's own. A freed address keeps its bit and
// waits in freed, so fresh ones go first and then the one that was freed longest
// ago.
type block struct {
	discovery.Block
	subnet discovery.Subnet
	size   int // addresses it can give
	used   int // of those, given
	bits   []uint64
	freed  []freedAddr // oldest first
	empty  time.Time   // since when used is 0
	lost   bool        // the pool no longer says that it is ours: nothing more is given from it
}

// freedAddr is a freed address, in quarantine or past it.
type freedAddr struct {
	at    uint32 // its offset in the block
	since time.Time
	saved bool // its record still stands on disk
}

func newBlock(b discovery.Block, s discovery.Subnet, now time.Time) *block {
	n := 1 << (b.Prefix.Addr().BitLen() - b.Prefix.Bits())
	out := &block{Block: b, subnet: s, size: int(s.UsableCount(b.Prefix)), bits: make([]uint64, (n+63)/64), empty: now}
	if n < 64 {
		out.bits[0] = ^uint64(0) << n
	}
	return out
}

// single reports a block of one address: nothing is gained by keeping it.
func (b *block) single() bool { return b.Prefix.IsSingleIP() }

// take gives a fresh address, else the one that was freed longest ago if its
// quarantine has ended.
func (b *block) take(now time.Time) (netip.Addr, bool) {
	if a, ok := b.fresh(); ok {
		b.used++
		return a, true
	}
	if len(b.freed) == 0 || now.Sub(b.freed[0].since) < quarantine {
		return netip.Addr{}, false
	}
	a := b.addr(b.freed[0].at)
	b.freed = b.freed[1:]
	b.used++
	return a, true
}

func (b *block) fresh() (netip.Addr, bool) {
	for w := range b.bits {
		for ^b.bits[w] != 0 {
			i := bits.TrailingZeros64(^b.bits[w])
			b.bits[w] |= 1 << i
			if a := b.addr(uint32(w*64 + i)); b.subnet.Assignable(a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// takeThis gives a, which must be assignable, unless it is in use. It does not
// wait for the end of its quarantine: who asks for a very address knows what was
// there.
func (b *block) takeThis(a netip.Addr) bool {
	at := b.offset(a)
	if i := slices.IndexFunc(b.freed, func(r freedAddr) bool { return r.at == at }); i >= 0 {
		b.freed = slices.Delete(b.freed, i, i+1)
		b.used++
		return true
	}
	if b.bits[at/64]&(1<<(at%64)) != 0 {
		return false
	}
	b.bits[at/64] |= 1 << (at % 64)
	b.used++
	return true
}

// put ends the use of a, which is in quarantine from now on. saved says that this
// is written down.
func (b *block) put(a netip.Addr, now time.Time, saved bool) {
	b.freed = append(b.freed, freedAddr{at: b.offset(a), since: now, saved: saved})
	b.unuse(now)
}

// undo ends a use that never came about: a is the next to be given.
func (b *block) undo(a netip.Addr, now time.Time) {
	b.freed = slices.Insert(b.freed, 0, freedAddr{at: b.offset(a)})
	b.unuse(now)
}

func (b *block) unuse(now time.Time) {
	if b.used--; b.used == 0 {
		b.empty = now
	}
}

// ready is when the next address can be taken; ok is false when all are in
// use.
func (b *block) ready() (at time.Time, ok bool) {
	if len(b.freed) == 0 {
		return time.Time{}, false
	}
	return b.freed[0].since.Add(quarantine), true
}

// drained is when the block goes back to the pool if nothing more is taken
// from it; ok is false while it is in use.
func (b *block) drained() (at time.Time, ok bool) {
	switch {
	case b.used > 0:
		return time.Time{}, false
	case b.single() && len(b.freed) > 0:
		return b.empty, true
	}
	return b.empty.Add(drainTime), true
}

// pastQuarantine returns the freed addresses whose quarantine has ended and whose
// record still stands on disk, and takes the records for removed.
func (b *block) pastQuarantine(now time.Time) []netip.Addr {
	var out []netip.Addr
	for i, r := range b.freed {
		if r.saved && now.Sub(r.since) >= quarantine {
			b.freed[i].saved = false
			out = append(out, b.addr(r.at))
		}
	}
	return out
}

// nextPast is when pastQuarantine will have something to return.
func (b *block) nextPast() (at time.Time, ok bool) {
	i := slices.IndexFunc(b.freed, func(r freedAddr) bool { return r.saved })
	if i < 0 {
		return time.Time{}, false
	}
	return b.freed[i].since.Add(quarantine), true
}

func (b *block) offset(a netip.Addr) uint32 {
	return low32(a) - low32(b.Prefix.Addr())
}

func (b *block) addr(offset uint32) netip.Addr {
	if a := b.Prefix.Addr(); a.Is4() {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], low32(a)+offset)
		return netip.AddrFrom4(raw)
	}
	raw := b.Prefix.Addr().As16()
	binary.BigEndian.PutUint32(raw[12:], low32(b.Prefix.Addr())+offset)
	return netip.AddrFrom16(raw)
}

// low32 is the last 32 bits of an address: a block never spans more.
func low32(a netip.Addr) uint32 {
	raw := a.As16()
	return binary.BigEndian.Uint32(raw[12:])
}
