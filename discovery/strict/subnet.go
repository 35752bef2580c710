package strict

import (
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// Prefix lengths of subnets: as short and as long as a network may have.
const (
	shortest4, longest4 = 8, 30
	shortest6, longest6 = 32, 126
)

// never are the addresses that no host may have, however private a network is.
var never = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 1122)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast and reserved (RFC 1112)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
	{netip.MustParsePrefix("::/96"), "unspecified and loopback (RFC 4291)"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped (RFC 4291)"},
}

func subnets(n discovery.Network) error {
	if len(n.Subnets) == 0 {
		return Invalidf("the network has no subnet")
	}
	if len(n.Subnets) > 2 {
		return Invalidf("%d subnets, one of each family is the most", len(n.Subnets))
	}
	for i, s := range n.Subnets {
		if err := Subnet(s); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		switch first := n.Subnets[0].CIDR; {
		case sameFamily(first, s.CIDR):
			return Invalidf("subnet %s: the network has %s already, one of each family is the most", s.CIDR, first)
		case first.Addr().Is6():
			return Invalidf("subnet %s comes before the IPv4 one", first)
		}
	}
	return nil
}

// Subnet says what is wrong with one subnet of a network.
func Subnet(s discovery.Subnet) error {
	if err := CIDR(s.CIDR); err != nil {
		return err
	}
	bare := discovery.Subnet{CIDR: s.CIDR}
	switch {
	case !s.Gateway.IsValid() || !s.CIDR.Contains(s.Gateway) || s.Gateway.Zone() != "":
		return Invalidf("gateway %s lies in no subnet of the network", s.Gateway)
	case !bare.Assignable(s.Gateway):
		return Invalidf("gateway %s is the network or broadcast address of %s", s.Gateway, s.CIDR)
	case s.Bits < 0 || s.Bits > discovery.BlockBits(s.CIDR):
		return Invalidf("blocks of 2^%d addresses, at most 2^%d in %s", s.Bits, discovery.BlockBits(s.CIDR), s.CIDR)
	}
	if err := addrRange(s); err != nil {
		return err
	}
	return aux(s)
}

// CIDR says what is wrong with the addresses of a subnet.
func CIDR(p netip.Prefix) error {
	if !p.IsValid() {
		return Invalidf("the subnet is missing")
	}
	short, long := shortest4, longest4
	if p.Addr().Is6() {
		short, long = shortest6, longest6
	}
	switch {
	case p != p.Masked():
		return Invalidf("subnet %s has host bits set, did you mean %s?", p, p.Masked())
	case p.Bits() > long:
		return Invalidf("subnet %s is too small, /%d is the smallest", p, long)
	case p.Bits() < short:
		return Invalidf("subnet %s is too large, /%d is the largest", p, short)
	}
	for _, n := range never {
		if n.prefix.Overlaps(p) {
			return Invalidf("subnet %s lies in %s: %s", p, n.prefix, n.what)
		}
	}
	return nil
}

// AddressPool says what is wrong with the addresses that automatic subnets come from.
func AddressPool(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4() || p.Bits() > 20:
		return Invalidf("%s must be an IPv4 subnet of /20 or larger", p)
	case p != p.Masked():
		return Invalidf("%s has host bits set, the subnet is %s", p, p.Masked())
	}
	return nil
}

func addrRange(s discovery.Subnet) error {
	r := s.Range
	switch {
	case r == netip.Prefix{}:
		return nil
	case !r.IsValid() || !sameFamily(r, s.CIDR) || r.Bits() < s.CIDR.Bits() || !s.CIDR.Contains(r.Addr()):
		return Invalidf("range %s lies in no subnet of the network", r)
	case r != r.Masked():
		return Invalidf("range %s has host bits set, did you mean %s?", r, r.Masked())
	}
	if s.UsableCount(r) == 0 {
		return Invalidf("range %s of subnet %s has no address to give: the network's, broadcast, gateway and auxiliary addresses are kept", r, s.CIDR)
	}
	return nil
}

func aux(s discovery.Subnet) error {
	if len(s.Aux) > mostAux {
		return Invalidf("%d auxiliary addresses, %d are the most", len(s.Aux), mostAux)
	}
	for name, a := range s.Aux {
		switch {
		case name == "" || len(name) > longestKey || !plain(name):
			return Invalidf("auxiliary address %s (%s): a name has 1 to %d bytes of text in one line", quote(name), a, longestKey)
		case !a.IsValid() || a.Zone() != "" || !s.CIDR.Contains(a):
			return Invalidf("auxiliary address %s %s lies in no subnet of the network", name, a)
		case a == s.Gateway:
			return Invalidf("auxiliary address %s (%s) is the gateway", name, a)
		}
	}
	return nil
}

func sameFamily(a, b netip.Prefix) bool { return a.Addr().BitLen() == b.Addr().BitLen() }
