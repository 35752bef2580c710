package plan

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// What encapsulation takes from an underlay packet, in bytes: Ethernet, VXLAN,
// UDP and the outer IP header (RFC 7348, section 5, with an untagged inner
// frame).
const (
	overheadIPv4 = 50
	overheadIPv6 = 70
)

// Overhead is what the tunnel from vtep takes from an underlay packet, in bytes.
func Overhead(vtep netip.Addr) int {
	if vtep.Is4() {
		return overheadIPv4
	}
	return overheadIPv6
}

// MTU is the largest inner packet, in bytes, that every member carrying the
// network can send and receive: the smallest underlay among them, less the
// overhead. A network that was given one has that.
func MTU(n discovery.Network, self discovery.HostID, members []discovery.Member, vtep netip.Addr) int {
	if n.MTU != 0 {
		return n.MTU
	}
	var smallest uint16
	if i := slices.IndexFunc(members, func(m discovery.Member) bool { return m.ID == self }); i >= 0 {
		smallest = members[i].Header.MTU
	}
	for _, m := range members {
		if m.Header.MTU == 0 || m.Header.Flags&discovery.FlagGone != 0 {
			continue
		}
		if slices.ContainsFunc(m.Header.Networks, func(h discovery.HeaderNetwork) bool { return h.ID == n.ID }) {
			smallest = min(smallest, m.Header.MTU)
		}
	}
	return max(int(smallest)-Overhead(vtep), strict.MinMTU)
}
