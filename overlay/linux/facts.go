package linux

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// facts are what the host is like, apart from us.
type facts struct {
	host    *space
	uplinks []string // as configured
}

// holder is the device with an address, and its MTU or that of a route over it
// if smaller.
func (s *space) holder(addr netip.Addr) (mtu int, dev string, err error) {
	addrs, err := s.addresses()
	if err != nil {
		return 0, "", err
	}
	i := slices.IndexFunc(addrs, func(a netlink.Addr) bool { return toPrefix(a.IPNet).Addr() == addr })
	if i < 0 {
		return 0, "", fmt.Errorf("no device has the address %s: %w", addr, fs.ErrNotExist)
	}
	l, err := s.linkAt(addrs[i].LinkIndex)
	if err != nil {
		return 0, "", err
	}
	routes, err := s.unicast(int(family(addr)))
	mtu = l.Attrs().MTU
	for _, r := range routes {
		if r.LinkIndex == l.Attrs().Index && r.MTU > 0 {
			mtu = min(mtu, r.MTU)
		}
	}
	return mtu, l.Attrs().Name, err
}

// unicast dumps the unicast routes of the main table.
func (s *space) unicast(family int) ([]netlink.Route, error) {
	return s.routes(family, netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE)
}

// defaults are the default routes of a family, the preferred first.
func (s *space) defaults(family int) ([]netlink.Route, error) {
	all, err := s.unicast(family)
	all = slices.DeleteFunc(all, func(r netlink.Route) bool { return toPrefix(r.Dst).Bits() != 0 || r.LinkIndex == 0 })
	slices.SortStableFunc(all, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
	return all, err
}

func (f *facts) uplinksOf(vtep netip.Addr) (u overlay.Uplinks, err error) {
	err = netns.Within(f.host.ns, func() error {
		value, err := readSysctl("net.ipv4.ip_forward")
		u.Routed = value == "1"
		return err
	})
	if err == nil {
		u.Devices, err = f.uplinkDevices(vtep)
	}
	return u, err
}

func (f *facts) uplinkDevices(vtep netip.Addr) ([]string, error) {
	if len(f.uplinks) > 0 {
		return f.uplinks, nil
	}
	var names []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := f.host.defaults(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if l, err := f.host.linkAt(r.LinkIndex); err == nil && !isGateway(l) {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	if _, dev, err := f.host.holder(vtep); err == nil {
		names = append(names, dev)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "lo" })
	return slices.Compact(names), nil
}

func localBridges(all []netlink.Link) (names []string) {
	outside := map[int]bool{} // bridges with a port that may lead anywhere
	for _, l := range all {
		if kind := l.Type(); kind != "veth" && kind != "tuntap" {
			outside[l.Attrs().MasterIndex] = true
		}
	}
	for _, l := range all {
		if a := l.Attrs(); l.Type() == "bridge" && !outside[a.Index] {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}

// here is the namespace of the caller.
func here() (*space, error) { return openSpace("") }

// HasAddr reports whether a device of the caller's namespace has the address.
func HasAddr(addr netip.Addr) (bool, error) {
	s, err := here()
	if err != nil {
		return false, err
	}
	defer s.close()
	addrs, err := s.addresses()
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return toPrefix(a.IPNet).Addr() == addr }), err
}

// LocalAddrs returns the addresses of the caller's namespace, but for those of our own
// devices.
func LocalAddrs() ([]netip.Addr, error) {
	s, err := here()
	if err != nil {
		return nil, err
	}
	defer s.close()
	links, err := s.links()
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{}
	for _, l := range links {
		ours[l.Attrs().Index] = isGateway(l)
	}
	all, err := s.addresses()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if !ours[a.LinkIndex] {
			out = append(out, toPrefix(a.IPNet).Addr())
		}
	}
	return out, nil
}

// DefaultAddr returns the source address of the default route, IPv4 before
// IPv6. The error is os.ErrNotExist when there is no such route.
func DefaultAddr() (netip.Addr, error) {
	s, err := here()
	if err != nil {
		return netip.Addr{}, err
	}
	defer s.close()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := s.defaults(family)
		if err != nil {
			return netip.Addr{}, err
		}
		for i := range routes {
			if a, err := s.source(&routes[i]); err == nil {
				return a, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("no default route with a source address: %w", fs.ErrNotExist)
}

// source asks the kernel which address a packet over the route would carry.
func (s *space) source(r *netlink.Route) (netip.Addr, error) {
	if r.Src != nil {
		return toAddr(r.Src), nil
	}
	to := r.Gw
	if to == nil {
		to = r.Dst.IP
	}
	found, err := ask(s, func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteGetWithOptions(to, &netlink.RouteGetOptions{OifIndex: r.LinkIndex})
	})
	if err != nil {
		return netip.Addr{}, err
	}
	if len(found) == 0 || found[0].Src == nil {
		return netip.Addr{}, fs.ErrNotExist
	}
	return toAddr(found[0].Src), nil
}

// LocalRoutes returns the prefixes that this host already routes somewhere,
// sorted: a network that overlaps one would be unreachable from here. Default
// routes, link-local and multicast prefixes and our own are left out.
func LocalRoutes() ([]netip.Prefix, error) {
	s, err := here()
	if err != nil {
		return nil, err
	}
	defer s.close()
	all, err := s.links()
	if err != nil {
		return nil, err
	}
	dev := map[int]netlink.Link{}
	for _, l := range all {
		dev[l.Attrs().Index] = l
	}
	var found []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := s.unicast(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if foreign(r, dev[r.LinkIndex]) {
				found = append(found, toPrefix(r.Dst))
			}
		}
	}
	slices.SortFunc(found, netip.Prefix.Compare)
	return slices.Compact(found), nil
}

func foreign(r netlink.Route, dev netlink.Link) bool {
	dst := toPrefix(r.Dst)
	a := dst.Addr()
	switch {
	case dst.Bits() == 0, a.IsLinkLocalUnicast(), a.IsMulticast(), r.Protocol == overlay.Protocol:
		return false
	case dev == nil:
		return true // several ways at once
	}
	return !isGateway(dev)
}
