package dns

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// choice is the addresses of a name, of which one answer gives some. With all of them
// in every answer, a client that sorts by common prefix, as RFC 6724 (rule 9) wants and
// glibc and musl do, would take the same one each time, whatever their order.
type choice struct {
	all   []netip.Addr // of one family, this host's first
	here  int          // how many of them are on this host
	most  int          // as Network.Answers
	asker netip.Addr   // may be invalid
}

// size is the most that inTurn gives.
func (c choice) size() int {
	switch {
	case c.most < 0:
		return len(c.all)
	case c.most == 0:
		return min(2, len(c.all))
	}
	return min(c.most, len(c.all))
}

// inTurn visits what one answer gives. Random, not counted: a shared counter is a
// cache line that all cores write, and with A and AAAA asked in pairs each type would
// see every other turn only.
func (c choice) inTurn(yield func(netip.Addr) bool) {
	n := len(c.all)
	switch {
	case c.most < 0 || c.most >= n || n == 1:
		start := rand.IntN(n)
		for i := range n {
			if !yield(c.all[(start+i)%n]) {
				return
			}
		}
	case c.most == 0 && 0 < c.here && c.here < n:
		here, away := c.all[rand.IntN(c.here)], c.all[c.here+rand.IntN(n-c.here)]
		if rand.IntN(2) == 0 {
			here, away = away, here
		}
		_ = yield(here) && yield(away)
	default:
		c.spread(yield)
	}
}

// spread visits one address, each equally often, and behind it others for the case
// that it does not answer: only such as no client that sorts puts before it.
func (c choice) spread(yield func(netip.Addr) bool) {
	n, left := len(c.all), c.size()-1
	first := rand.IntN(n)
	near := commonPrefix(c.all[first], c.asker)
	if !yield(c.all[first]) {
		return
	}
	start := rand.IntN(n)
	for i := range n {
		next := (start + i) % n
		if left == 0 {
			return
		}
		if next != first && commonPrefix(c.all[next], c.asker) <= near {
			left--
			if !yield(c.all[next]) {
				return
			}
		}
	}
}

// commonPrefix in bits; zero for addresses of two families.
func commonPrefix(a, b netip.Addr) int {
	if !a.IsValid() || !b.IsValid() || a.Is4() != b.Is4() {
		return 0
	}
	x, y, common := a.As16(), b.As16(), 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return common + bits.LeadingZeros8(d)
		}
		common += 8
	}
	return common
}
