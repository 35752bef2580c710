package networks

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// tooLarge warns of an MTU whose packets a member's underlay does not pass. It is
// no error: the underlay may be about to change.
func tooLarge(mtu int, members []discovery.Member, vtep netip.Addr) []string {
	var smallest discovery.Member
	for _, m := range members {
		if m.Header.MTU != 0 && m.Header.Flags&discovery.FlagGone == 0 && (smallest.Header.MTU == 0 || m.Header.MTU < smallest.Header.MTU) {
			smallest = m
		}
	}
	underlay := int(smallest.Header.MTU)
	largest := underlay - plan.Overhead(vtep)
	if underlay == 0 || mtu <= largest {
		return nil
	}
	return []string{fmt.Sprintf("-o mtu=%d: the underlay of host %s passes %d bytes, so larger packets than %d are lost: -o mtu=%d is the largest that works",
		mtu, smallest.Name, underlay, largest, largest)}
}

// publicSubnets warns of subnets that somebody else owns on the internet. What
// is no subnet at all is refused by the pool.
func publicSubnets(subnets []string) []string {
	var warnings []string
	for _, s := range subnets {
		if p, err := netip.ParsePrefix(s); err == nil && !private(p) {
			warnings = append(warnings, fmt.Sprintf("%s is neither private nor for documentation: its real owner cannot be reached from this network", p))
		}
	}
	return warnings
}

// privateNets are RFC 1918, RFC 6598, RFC 3927, RFC 2544 and the documentation
// ranges of RFC 5737.
var privateNets = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
}

func private(p netip.Prefix) bool {
	return slices.ContainsFunc(privateNets, func(q netip.Prefix) bool { return q.Contains(p.Addr()) && q.Bits() <= p.Bits() })
}
