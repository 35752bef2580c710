package networks

import (
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// Underlay is what the members reach each other over: their tunnel addresses, and
// the subnets of their routes that hold them. A network over it would cut off every
// host that carries it.
func Underlay(members []discovery.Member) []netip.Prefix {
	var out []netip.Prefix
	for _, m := range members {
		vtep := m.Header.VTEP
		if !vtep.IsValid() || m.Header.Flags&discovery.FlagGone != 0 {
			continue
		}
		out = append(out, netip.PrefixFrom(vtep, vtep.BitLen()))
		for _, p := range m.Header.Avoid {
			if p.Bits() > 0 && p.Contains(vtep) {
				out = append(out, p)
			}
		}
	}
	return out
}
