package discovery

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
)

// Block is a run of a subnet's addresses that one host hands out by itself.
type Block struct {
	Network NetworkID
	Prefix  netip.Prefix
	Host    HostID
	State   string // BlockActive
	Seq     uint64 // of the claim: +1 at each change of holder
	Index   uint64 // the store's ModifyIndex: releases compare it
}

// BlockActive is the state of a block in the pool whose holder hands out its
// addresses.
const BlockActive = "active"

// Reservation is a single address that the pool records for a host.
type Reservation struct {
	Host HostID
	Seq  uint64 // of the claim: +1 at each change of holder
}

// ReservedAddr is an address that the pool records for a host by itself.
type ReservedAddr struct {
	Network NetworkID
	Addr    netip.Addr
	Seq     uint64 // as Reservation's
}

// ErrFull is wrapped when a network has no free block or address left.
var ErrFull = errors.New("no free address")

// ErrCovered is wrapped when an address cannot be reserved because of the block
// that covers it: one is held where none was expected, or it changed.
var ErrCovered = errors.New("address lies in the block of another host")

// ErrStoreAway is wrapped when the pool's store could not be asked: nothing
// may be concluded about what is free.
var ErrStoreAway = errors.New("store unavailable")

// TakenError says that an address belongs to somebody else.
type TakenError struct {
	Addr netip.Addr
	Host HostID // the holder; zero when it is not known
}

func (e *TakenError) Error() string {
	if e.Host.IsZero() {
		return fmt.Sprintf("address %s is taken", e.Addr)
	}
	return fmt.Sprintf("address %s is taken by host %s", e.Addr, e.Host)
}

const (
	maxBlockBits4 = 6  // 64 addresses: a block that is all used is worth the round trip for the next
	maxBlockBits6 = 16 // /112: scarcity is no concern there, one block lasts a host for ever
)

// BlockBits returns the b of a new subnet whose blocks shall have 1<<b
// addresses: about as many blocks as a block has addresses times four, so that
// neither hosts nor addresses run out first. It is meant for Subnet.Bits.
func BlockBits(subnet netip.Prefix) int {
	most := maxBlockBits4
	if subnet.Addr().Is6() {
		most = maxBlockBits6
	}
	return min(max((subnet.Addr().BitLen()-subnet.Bits())/2-1, 0), most)
}

// pool is the part of the subnet that is cut into claimable blocks.
func (s Subnet) pool() netip.Prefix {
	if s.Range.IsValid() {
		return s.Range.Masked()
	}
	return s.CIDR.Masked()
}

// blockLen is the prefix length of the subnet's blocks. A range smaller than a
// block makes the blocks as small as the range, so that no block ever reaches
// out of it.
func (s Subnet) blockLen() int {
	return max(s.CIDR.Addr().BitLen()-s.Bits, s.pool().Bits())
}

// BlockOf returns the one place of the grid that covers a: the grid spans the
// whole subnet, whatever its range. It is the zero Prefix when a lies outside
// the subnet.
func (s Subnet) BlockOf(a netip.Addr) netip.Prefix {
	if !s.CIDR.Contains(a) {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, s.blockLen()).Masked()
}

// Claimable reports whether hosts may hold the block b: it is on the grid,
// inside the range, and has an address to give.
func (s Subnet) Claimable(b netip.Prefix) bool {
	return b.Bits() == s.blockLen() && b == b.Masked() && s.pool().Contains(b.Addr()) && s.UsableCount(b) > 0
}

// Blocks is the number of places of the grid inside the range, at most 1<<63.
// Some may not be Claimable: in a grid of single addresses the gateway's is
// one of them.
func (s Subnet) Blocks() uint64 {
	return 1 << min(s.blockLen()-s.pool().Bits(), 63)
}

// Block returns the i-th place of the grid inside the range, counted from 0.
// It is the zero Prefix when there is none.
func (s Subnet) Block(i uint64) netip.Prefix {
	if i >= s.Blocks() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addrPlus(s.pool().Addr(), i, s.CIDR.Addr().BitLen()-s.blockLen()), s.blockLen())
}

// Assignable reports whether an endpoint may have a: it is in the subnet and
// none of its network, broadcast (RFC 919; none in a /31, RFC 3021),
// subnet-router anycast (RFC 4291 section 2.6.1), gateway and auxiliary
// addresses. The range does not matter.
func (s Subnet) Assignable(a netip.Addr) bool {
	if !s.CIDR.Contains(a) || a == s.Gateway {
		return false
	}
	for _, x := range s.Aux {
		if a == x {
			return false
		}
	}
	if s.CIDR.Bits() >= a.BitLen()-1 {
		return true
	}
	return a != s.CIDR.Masked().Addr() && (a.Is6() || a != lastAddr(s.CIDR))
}

// Usable yields the addresses of the block that may be handed out from it, in
// order: the assignable ones inside the range.
func (s Subnet) Usable(block netip.Prefix) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for a := block.Masked().Addr(); a.IsValid() && block.Contains(a); a = a.Next() {
			if s.pool().Contains(a) && s.Assignable(a) && !yield(a) {
				return
			}
		}
	}
}

// UsableCount is the number of addresses that Usable yields for a place of the
// grid. It costs no more than the subnet has auxiliary addresses.
func (s Subnet) UsableCount(block netip.Prefix) uint64 {
	block = block.Masked()
	if !s.CIDR.Contains(block.Addr()) || !s.pool().Contains(block.Addr()) {
		return 0
	}
	n := uint64(1) << min(block.Addr().BitLen()-block.Bits(), 63)
	for _, a := range s.Reserved() {
		if block.Contains(a) && s.pool().Contains(a) {
			n--
		}
	}
	return n
}

// Room is how many addresses of the subnet endpoints may have without asking for one, at
// most 1<<63.
func (s Subnet) Room() uint64 { return s.UsableCount(s.pool()) }

// Reserved lists, each once, the addresses of the subnet that are not
// Assignable.
func (s Subnet) Reserved() []netip.Addr {
	candidates := []netip.Addr{s.CIDR.Masked().Addr(), lastAddr(s.CIDR), s.Gateway}
	for _, a := range s.Aux {
		candidates = append(candidates, a)
	}
	seen := make(map[netip.Addr]bool, len(candidates))
	out := candidates[:0]
	for _, a := range candidates {
		if s.CIDR.Contains(a) && !seen[a] && !s.Assignable(a) {
			out = append(out, a)
		}
		seen[a] = true
	}
	return out
}

// lastAddr is the highest address of p: IPv4's broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// addrPlus adds i<<shift to a. The sum must stay inside the family.
func addrPlus(a netip.Addr, i uint64, shift int) netip.Addr {
	b := a.AsSlice()
	var carry uint64
	for at := len(b) - 1; at >= 0; at-- {
		sum := uint64(b[at]) + byteOf(i, shift, len(b)-1-at) + carry
		b[at], carry = byte(sum), sum>>8
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

// byteOf is the n-th lowest byte of the 128-bit number i<<shift.
func byteOf(i uint64, shift, n int) uint64 {
	low := n*8 - shift // the bit of i that becomes the lowest of the byte
	switch {
	case low <= -bits.UintSize || low >= 64:
		return 0
	case low < 0:
		return i << -low & 0xff
	}
	return i >> low & 0xff
}
