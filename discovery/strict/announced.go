package strict

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// The bounds of what one member says. A host that works is far below each.
const (
	longest     = 253   // bytes of a name (RFC 1035, section 2.3.4)
	mostNames   = 128   // aliases of an endpoint
	mostUnknown = 1024  // bytes of fields that this release does not know
	mostOf      = 4096  // networks of a host, and addresses that it wants avoided
	mostBlocks  = 65536 // blocks of a host, in all networks
	mostAddrs   = 64    // addresses of a host
	maxVNI      = 1<<24 - 1
	// LeastMTU is the smallest underlay that a member is believed to have (RFC 8200,
	// section 5): with less all others would send smaller packets because of it.
	LeastMTU = 1280
	// leastAvoid is the shortest prefix that a member may keep automatic subnets out
	// of. A shorter one would leave no room for any.
	leastAvoid = 7
)

// Announced says what is wrong with an endpoint whatever its network is.
func Announced(e discovery.Endpoint) error {
	if !e.IPv4.IsValid() && !e.IPv6.IsValid() {
		return errors.New("has no address")
	}
	if e.IPv4.IsValid() && !e.IPv4.Is4() || e.IPv6.IsValid() && (!e.IPv6.Is6() || e.IPv6.Is4In6()) {
		return errors.New("has an address of the wrong family")
	}
	if err := errors.Join(unicast(e.IPv4), unicast(e.IPv6)); err != nil {
		return err
	}
	if e.MAC.IsZero() || e.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC address %s is not that of one station", e.MAC)
	}
	if len(e.Aliases) > mostNames {
		return fmt.Errorf("has %d aliases, %d at most", len(e.Aliases), mostNames)
	}
	for _, name := range e.Aliases {
		if err := printable("alias", name); err != nil {
			return err
		}
	}
	if len(e.Unknown) > mostUnknown {
		return fmt.Errorf("has %d bytes of unknown fields, %d at most", len(e.Unknown), mostUnknown)
	}
	return errors.Join(printable("name", e.Name), printable("runtime", e.Runtime), details(e.Details))
}

// Places are the addresses that a network hands out. A plan asks for many endpoints,
// so what is asked of the network is found once.
type Places struct {
	name    string
	subnets []discovery.Subnet
	not     [][]netip.Addr // of each subnet, those that are reserved
}

// PlacesOf returns the places of a network.
func PlacesOf(n discovery.Network) Places {
	p := Places{name: n.Name, subnets: n.Subnets}
	for _, s := range n.Subnets {
		p.not = append(p.not, s.Reserved())
	}
	return p
}

// Endpoint says why an endpoint cannot be one of its network: each of its addresses
// must be one that the network hands out.
func Endpoint(n discovery.Network, e discovery.Endpoint) error {
	p := PlacesOf(n)
	return errors.Join(Announced(e), p.Check(e.IPv4), p.Check(e.IPv6))
}

// Check says why no endpoint of the network can have the address. An invalid one is
// none.
func (p *Places) Check(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	for i := range p.subnets {
		switch {
		case !p.subnets[i].CIDR.Contains(a):
		case a == p.subnets[i].Gateway:
			return fmt.Errorf("address %s is the gateway of network %s", a, p.name)
		case slices.Contains(p.not[i], a):
			return fmt.Errorf("address %s of network %s is reserved", a, p.name)
		default:
			return nil
		}
	}
	return fmt.Errorf("address %s is outside network %s", a, p.name)
}

// Header returns what can be believed of what a host says of itself, and an error
// about the rest, which is left out.
func Header(h discovery.Header) (discovery.Header, error) {
	var wrong []error
	for _, f := range []struct {
		what string
		text *string
	}{{"name", &h.Name}, {"version", &h.Version}} {
		if err := printable(f.what, *f.text); err != nil {
			*f.text, wrong = "", append(wrong, err)
		}
	}
	if err := unicast(h.VTEP); err != nil {
		h.VTEP, wrong = netip.Addr{}, append(wrong, fmt.Errorf("tunnel %w", err))
	}
	if h.MTU != 0 && h.MTU < LeastMTU {
		wrong = append(wrong, fmt.Errorf("an underlay with an MTU of %d: below %d it is not believed", h.MTU, LeastMTU))
		h.MTU = 0
	}
	if h.Link != 0 && (h.MTU == 0 || h.Link <= h.MTU) {
		wrong = append(wrong, fmt.Errorf("a device with an MTU of %d, which is not more than the path's", h.Link))
		h.Link = 0
	}
	if len(h.Unknown) > mostUnknown {
		wrong = append(wrong, fmt.Errorf("%d bytes of unknown fields, %d at most", len(h.Unknown), mostUnknown))
		h.Unknown = nil
	}
	var err error
	if h.Avoid, err = avoided(h.Avoid); err != nil {
		wrong = append(wrong, err)
	}
	if h.Addrs, err = addresses(h.Addrs); err != nil {
		wrong = append(wrong, err)
	}
	if h.Networks, err = joined(h.Networks); err != nil {
		wrong = append(wrong, err)
	}
	return h, errors.Join(wrong...)
}

// avoided returns the subnets that a host may keep others from using.
func avoided(all []netip.Prefix) ([]netip.Prefix, error) {
	if len(all) > mostOf {
		return nil, fmt.Errorf("%d subnets to be avoided, %d at most", len(all), mostOf)
	}
	i := slices.IndexFunc(all, func(p netip.Prefix) bool { return !Avoidable(p) })
	if i < 0 {
		return all, nil
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return !Avoidable(p) })
	return kept, fmt.Errorf("subnet %s to be avoided leaves no room for networks", all[i])
}

// Addresses are those that a host announces as its own, out of what its devices have.
func Addresses(all []netip.Addr) []netip.Addr {
	kept := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return unicast(a) != nil || a.IsLinkLocalUnicast() })
	slices.SortFunc(kept, netip.Addr.Compare)
	kept = slices.Compact(kept)
	return kept[:min(len(kept), mostAddrs)]
}

// addresses returns the addresses that a host may say are its own.
func addresses(all []netip.Addr) ([]netip.Addr, error) {
	if len(all) > mostAddrs {
		return nil, fmt.Errorf("%d addresses, %d at most", len(all), mostAddrs)
	}
	for _, a := range all {
		if err := unicast(a); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Avoidable reports whether a host may keep automatic subnets out of p: there is
// room beside it.
func Avoidable(p netip.Prefix) bool { return p.Bits() >= leastAvoid }

// joined returns the networks that a host may take part in.
func joined(all []discovery.HeaderNetwork) ([]discovery.HeaderNetwork, error) {
	blocks := 0
	for _, n := range all {
		if n.VNI == 0 || n.VNI > maxVNI {
			return nil, fmt.Errorf("VNI %d is none (RFC 7348)", n.VNI)
		}
		blocks += len(n.Blocks)
	}
	if len(all) > mostOf || blocks > mostBlocks {
		return nil, fmt.Errorf("%d networks and %d blocks, %d and %d at most", len(all), blocks, mostOf, mostBlocks)
	}
	return all, nil
}

// unicast says why an address cannot be that of one host or endpoint. An invalid one
// is none, and nothing is wrong with it.
func unicast(a netip.Addr) error {
	what := ""
	switch {
	case !a.IsValid():
		return nil
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0:
		what = "unspecified"
	case a.IsLoopback():
		what = "loopback"
	case a.IsMulticast():
		what = "multicast"
	case a.Is6() && a.IsLinkLocalUnicast():
		what = "link-local"
	case a.Is4() && a.As4()[0] >= 240:
		what = "reserved"
	case a.Zone() != "":
		what = "scoped"
	default:
		return nil
	}
	return fmt.Errorf("address %s is %s", a, what)
}

// printable says why a word cannot be shown to people or asked for in DNS. An empty
// one is none.
func printable(what, s string) error {
	if len(s) > longest {
		return fmt.Errorf("%s of %d bytes, %d at most", what, len(s), longest)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%s %q has other characters than printable ASCII", what, s)
		}
	}
	return nil
}
