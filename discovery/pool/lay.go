package pool

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Lay returns the subnets that the network would have beside others, without asking
// the store: what CreateNetwork does may differ, since others may be faster. An
// automatic one is any that is free, so that two hosts that ask at the same moment
// hardly get the same. Its errors are those of CreateNetwork.
func (r NetworkSpec) Lay(pool netip.Prefix, others []discovery.Network) ([]discovery.Subnet, error) {
	nets := make([]netValue, len(others))
	for i, n := range others {
		nets[i].Network = n
	}
	used := r.uses(nets)
	if len(r.Subnets) == 0 {
		if p, ok := anyFree(pool, max(automatic, pool.Bits()), used); ok {
			r.Subnets = []string{p.String()}
		}
	}
	return r.layout(pool, used)
}

// anyFree is a prefix of the pool that nothing overlaps, by chance; false: none was
// found soon, which is not to say that there is none.
func anyFree(pool netip.Prefix, bits int, used []use) (netip.Prefix, bool) {
	if !pool.Addr().Is4() {
		return netip.Prefix{}, false
	}
	raw := pool.Masked().Addr().As4()
	first := binary.BigEndian.Uint32(raw[:])
	for range 32 {
		var at [4]byte
		binary.BigEndian.PutUint32(at[:], first+rand.Uint32N(1<<(bits-pool.Bits()))<<(32-bits))
		p := netip.PrefixFrom(netip.AddrFrom4(at), bits)
		if !slices.ContainsFunc(used, func(u use) bool { return u.prefix.Overlaps(p) }) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
