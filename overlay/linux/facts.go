package linux

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Underlay returns the device that holds addr and the largest packet that it
// sends in bytes: the device's MTU, or that of a route over it if smaller. The
// error is os.ErrNotExist when no device holds the address.
func (k *Kernel) Underlay(addr netip.Addr) (mtu int, dev string, err error) {
	l, err := k.host.holder(addr)
	if err != nil {
		return 0, "", err
	}
	return l.mtu, l.name, nil
}

// holder is the device with an address. Its mtu is lowered to that of a route.
func (s *space) holder(addr netip.Addr) (link, error) {
	addrs, err := s.addresses()
	if err != nil {
		return link{}, err
	}
	i := slices.IndexFunc(addrs, func(a address) bool { return a.prefix.Addr() == addr })
	if i < 0 {
		return link{}, fmt.Errorf("no device has the address %s: %w", addr, fs.ErrNotExist)
	}
	l, err := s.linkAt(addrs[i].dev)
	if err != nil {
		return link{}, err
	}
	routes, err := s.routes(family(addr))
	for _, r := range routes {
		if r.dev == l.index && r.mtu > 0 {
			l.mtu = min(l.mtu, r.mtu)
		}
	}
	return l, err
}

func (s *space) linkAt(index int) (link, error) {
	var e encoder
	e.begin(unix.RTM_GETLINK, 0, ifInfo(index, 0, 0))
	e.u32(unix.IFLA_EXT_MASK, skipStats)
	e.end()
	var l link
	err := s.get(&e, func(body []byte) { l, _ = parseLink(body) })
	return l, err
}

// routes dumps the unicast routes of the main table.
func (s *space) routes(family uint8) ([]route, error) {
	var e encoder
	e.begin(unix.RTM_GETROUTE, 0, rtMsg(family, 0, unix.RT_TABLE_MAIN, 0, 0, unix.RTN_UNICAST))
	e.end()
	all, err := dump(s.conn, &e, func(body []byte) (route, bool) {
		r, ok := parseRoute(body)
		return r, ok && r.table == unix.RT_TABLE_MAIN && r.typ == unix.RTN_UNICAST
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // a kernel without IPv6
	}
	return all, err
}

// defaults are the default routes of a family, the preferred first.
func (s *space) defaults(family uint8) ([]route, error) {
	all, err := s.routes(family)
	all = slices.DeleteFunc(all, func(r route) bool { return r.dst.Bits() != 0 || r.dev == 0 })
	slices.SortStableFunc(all, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	return all, err
}

// Uplinks returns the devices of the default routes and of the VTEP, sorted, or
// those that were configured.
func (k *Kernel) Uplinks(_ context.Context, vtep netip.Addr) (u overlay.Uplinks, err error) {
	err = within(k.host.ns, func() error {
		value, err := readSysctl("net.ipv4.ip_forward")
		u.Routed = value == "1"
		return err
	})
	if err == nil {
		u.Devices, err = k.uplinkDevices(vtep)
	}
	return u, err
}

func (k *Kernel) uplinkDevices(vtep netip.Addr) ([]string, error) {
	if len(k.uplinks) > 0 {
		return k.uplinks, nil
	}
	var names []string
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		routes, err := k.host.defaults(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if l, err := k.host.linkAt(r.dev); err == nil {
				names = append(names, l.name)
			}
		}
	}
	if l, err := k.host.holder(vtep); err == nil {
		names = append(names, l.name)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "lo" || ours(n) })
	return slices.Compact(names), nil
}

// Bridges returns the bridges all of whose ports are the near ends of veths or
// devices of virtual machines: what is behind them is on this host. One without
// ports is among them.
func (k *Kernel) Bridges(context.Context) ([]string, error) {
	all, err := k.host.links()
	if err != nil {
		return nil, err
	}
	return localBridges(all), nil
}

func localBridges(all []link) (names []string) {
	outside := map[int]bool{} // bridges with a port that may lead anywhere
	for i := range all {
		if l := &all[i]; l.slaveKind == "bridge" && l.kind != "veth" && l.kind != "tun" {
			outside[l.master] = true
		}
	}
	for i := range all {
		if l := &all[i]; l.kind == "bridge" && !outside[l.index] {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names
}

// here is the namespace of the caller.
func here() (*space, error) { return openSpace("/proc/thread-self/ns/net") }

// HasAddr reports whether a device of the caller's namespace has the address.
func HasAddr(addr netip.Addr) (bool, error) {
	s, err := here()
	if err != nil {
		return false, err
	}
	defer s.close()
	addrs, err := s.addresses()
	return slices.ContainsFunc(addrs, func(a address) bool { return a.prefix.Addr() == addr }), err
}

// DefaultAddr returns the source address of the default route, IPv4 before
// IPv6. The error is os.ErrNotExist when there is no such route.
func DefaultAddr() (netip.Addr, error) {
	s, err := here()
	if err != nil {
		return netip.Addr{}, err
	}
	defer s.close()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
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
func (s *space) source(r *route) (netip.Addr, error) {
	if r.src.IsValid() {
		return r.src, nil
	}
	to := r.via
	if !to.IsValid() {
		to = r.dst.Addr()
	}
	var e encoder
	e.begin(unix.RTM_GETROUTE, 0, rtMsg(family(to), uint8(to.BitLen()), 0, 0, 0, 0))
	e.addr(unix.RTA_DST, to)
	e.u32(unix.RTA_OIF, uint32(r.dev))
	e.end()
	var found route
	if err := s.get(&e, func(body []byte) { found, _ = parseRoute(body) }); err != nil {
		return netip.Addr{}, err
	}
	if !found.src.IsValid() {
		return netip.Addr{}, fs.ErrNotExist
	}
	return found.src, nil
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
	devices, err := s.links()
	if err != nil {
		return nil, err
	}
	dev := byIndex(devices)
	var found []netip.Prefix
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		routes, err := s.routes(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if foreign(r, dev[r.dev]) {
				found = append(found, r.dst)
			}
		}
	}
	slices.SortFunc(found, netip.Prefix.Compare)
	return slices.Compact(found), nil
}

func foreign(r route, dev *link) bool {
	a := r.dst.Addr()
	switch {
	case r.dst.Bits() == 0, a.IsLinkLocalUnicast(), a.IsMulticast(), r.protocol == overlay.Protocol:
		return false
	case dev == nil:
		return true // several ways at once
	}
	return !isGateway(dev)
}
