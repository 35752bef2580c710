package pool

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// automatic is the prefix length of a subnet that nobody asked for.
const automatic = 20

func invalid(format string, args ...any) error { return strict.Invalidf(format, args...) }

// subnets reads the subnets that the request names, IPv4 first.
func (r NetworkSpec) subnets() ([]discovery.Subnet, error) {
	var out []discovery.Subnet
	for _, text := range r.Subnets {
		s, err := parseSubnet(text)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(out, func(o discovery.Subnet) bool { return sameFamily(o.CIDR, s.CIDR) }); i >= 0 {
			return nil, invalid("subnet %s: the network has %s already, one of each family is the most", s.CIDR, out[i].CIDR)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b discovery.Subnet) int { return a.CIDR.Addr().BitLen() - b.CIDR.Addr().BitLen() })
	return out, nil
}

func parseSubnet(text string) (s discovery.Subnet, err error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return s, invalid("subnet %q is malformed", text)
	}
	if err := strict.CIDR(p); err != nil {
		return s, err
	}
	return newSubnet(p), nil
}

// newSubnet is a subnet with the usual gateway: the first address behind the
// network's.
func newSubnet(p netip.Prefix) discovery.Subnet {
	return discovery.Subnet{CIDR: p, Gateway: p.Addr().Next(), Bits: discovery.BlockBits(p)}
}

func sameFamily(a, b netip.Prefix) bool { return a.Addr().BitLen() == b.Addr().BitLen() }

// furnish gives the subnets the gateways, ranges and auxiliary addresses of the
// request; each belongs to the subnet that it lies in.
func (r NetworkSpec) furnish(subnets []discovery.Subnet) error {
	for _, step := range []func([]discovery.Subnet) error{r.gateways, r.ranges, r.aux} {
		if err := step(subnets); err != nil {
			return err
		}
	}
	for _, s := range subnets {
		if err := strict.Subnet(s); err != nil {
			return err
		}
	}
	return nil
}

func (r NetworkSpec) gateways(subnets []discovery.Subnet) error {
	given := map[*discovery.Subnet]bool{}
	for _, text := range r.Gateways {
		s, a, err := locate("gateway", text, subnets)
		if err != nil {
			return err
		}
		if given[s] {
			return invalid("gateway %s: subnet %s has one already", a, s.CIDR)
		}
		given[s], s.Gateway = true, a
	}
	return nil
}

func (r NetworkSpec) aux(subnets []discovery.Subnet) error {
	for name, text := range r.Aux {
		s, a, err := locate("auxiliary address "+name, text, subnets)
		if err != nil {
			return err
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = a
	}
	return nil
}

func (r NetworkSpec) ranges(subnets []discovery.Subnet) error {
	for _, text := range r.Ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return invalid("range %q is malformed", text)
		}
		if p != p.Masked() {
			return invalid("range %s has host bits set, did you mean %s?", p, p.Masked())
		}
		i := slices.IndexFunc(subnets, func(s discovery.Subnet) bool { return contains(s.CIDR, p) })
		if i < 0 {
			return invalid("range %s lies in no subnet of the network", p)
		}
		if subnets[i].Range.IsValid() {
			return invalid("range %s: subnet %s has one already", p, subnets[i].CIDR)
		}
		subnets[i].Range = p
	}
	return nil
}

// locate reads an address and finds its subnet.
func locate(what, text string, subnets []discovery.Subnet) (*discovery.Subnet, netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return nil, a, invalid("%s %q is malformed", what, text)
	}
	i := slices.IndexFunc(subnets, func(s discovery.Subnet) bool { return s.CIDR.Contains(a) })
	if i < 0 {
		return nil, a, invalid("%s %s lies in no subnet of the network", what, a)
	}
	return &subnets[i], a, nil
}

func contains(outer, inner netip.Prefix) bool {
	return sameFamily(outer, inner) && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// Avoid is an address range that a host reaches without us: a route, or a
// resolver.
type Avoid struct {
	Prefix netip.Prefix
	Host   string
}

// use is a range that a new subnet must not touch, and whose it is.
type use struct {
	prefix netip.Prefix
	by     string
}

// uses are the ranges that are in the way of a new network.
func (r NetworkSpec) uses(nets []netValue) []use {
	var out []use
	for _, n := range nets {
		if r.isolated() && strict.Isolated(n.Network) {
			continue // both end at their own bridge: neither is ever routed
		}
		for _, s := range n.Subnets {
			out = append(out, use{s.CIDR, "network " + n.Name})
		}
	}
	for _, a := range r.Avoid {
		if a.Prefix.IsValid() && a.Prefix.Bits() > 0 { // a default route is no obstacle
			out = append(out, use{a.Prefix.Masked(), "host " + a.Host})
		}
	}
	return out
}

// lostUses are the addresses of networks that hosts carry and the store does not have.
func lostUses(lost []Carried) (out []use) {
	for _, c := range lost {
		by := "network " + c.Name + ", which host " + c.Host + " carries"
		if c.Name == "" {
			by = "a network that host " + c.Host + " carries"
		}
		for _, s := range c.Subnets {
			out = append(out, use{s.CIDR, by})
		}
	}
	return out
}

func (r NetworkSpec) isolated() bool {
	return strict.Isolated(discovery.Network{Internal: r.Internal, Options: r.Options})
}

// checkOverlap is an *OverlapError when the subnet is not free.
func checkOverlap(subnet, pool netip.Prefix, used []use) error {
	i := slices.IndexFunc(used, func(u use) bool { return u.prefix.Overlaps(subnet) })
	if i < 0 {
		return nil
	}
	next, _ := free(pool, subnet.Bits(), used)
	return &OverlapError{Subnet: subnet, With: used[i].by, Next: next}
}

// free is the first prefix of that length in the pool that nothing overlaps.
func free(pool netip.Prefix, bits int, used []use) (netip.Prefix, bool) {
	if !pool.IsValid() || bits < pool.Bits() || bits > pool.Addr().BitLen() {
		return netip.Prefix{}, false
	}
	at := netip.PrefixFrom(pool.Masked().Addr(), bits)
	for pool.Contains(at.Addr()) {
		i := slices.IndexFunc(used, func(u use) bool { return u.prefix.Overlaps(at) })
		if i < 0 {
			return at, true
		}
		// Behind the larger of the two, which ends where a prefix of our
		// length may begin.
		end := at
		if used[i].prefix.Bits() < bits {
			end = used[i].prefix
		}
		after := last(end).Next()
		if !after.IsValid() {
			break
		}
		at = netip.PrefixFrom(after, bits)
	}
	return netip.Prefix{}, false
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
