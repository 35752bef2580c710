package strict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Clash is a network that cannot be beside another, or on this underlay.
type Clash struct {
	discovery.Network
	Why string // one clause
}

// Networks divides networks, each of which passed Network, into those that can be
// together and those that cannot: of two with one id, name, VNI or address the
// older one stays, and the one with the lower id when both were made at once, so
// that every host decides alike. known are the networks that this host carries
// already: they stay whatever else claims to be older, and wherever the underlay
// went since. underlay are the addresses over which the members reach each other.
func Networks(known, others []discovery.Network, underlay []netip.Prefix) (good []discovery.Network, clashes []Clash) {
	others = slices.Clone(others)
	slices.SortFunc(others, func(a, b discovery.Network) int {
		return cmp.Or(a.Created.Compare(b.Created), slices.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Name, b.Name))
	})
	good = slices.Clone(known)
	for _, n := range others {
		why := overUnderlay(n, underlay)
		for _, o := range good {
			why = cmp.Or(why, clash(n, o))
		}
		if why != "" {
			clashes = append(clashes, Clash{n, why})
			continue
		}
		good = append(good, n)
	}
	discovery.SortNetworks(good)
	return good, clashes
}

// clash says why n cannot be beside o; empty: it can.
func clash(n, o discovery.Network) string {
	switch {
	case n.ID == o.ID && n.Name == o.Name:
		return fmt.Sprintf("network %s has vni %d and subnet %s on this host: those never change", o.Name, o.VNI, o.CIDRs())
	case n.ID == o.ID:
		return fmt.Sprintf("its id %s is that of network %s", n.ID, o.Name)
	case n.Name == o.Name:
		return fmt.Sprintf("its name is that of network %s", o.ID)
	case n.VNI == o.VNI:
		return fmt.Sprintf("its vni %d is that of network %s", n.VNI, o.Name)
	case Isolated(n) && Isolated(o):
		return ""
	}
	for _, s := range n.Subnets {
		for _, p := range o.Subnets {
			if s.CIDR.Overlaps(p.CIDR) {
				return fmt.Sprintf("its subnet %s overlaps network %s (%s)", s.CIDR, o.Name, p.CIDR)
			}
		}
	}
	return ""
}

func overUnderlay(n discovery.Network, underlay []netip.Prefix) string {
	for _, s := range n.Subnets {
		for _, u := range underlay {
			if s.CIDR.Overlaps(u) {
				return fmt.Sprintf("its subnet %s overlaps %s, over which the members reach each other", s.CIDR, u)
			}
		}
	}
	return ""
}

// Isolated networks may share their addresses with others of the kind: both end at
// their own bridge, neither is ever routed.
func Isolated(n discovery.Network) bool {
	return n.Internal && n.HostAccess() == discovery.HostAccessNone
}
