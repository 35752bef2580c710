package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// putAddress adds an address of ours. Its route is ours to make, and every host
// has the gateway address.
func (s *space) putAddress(a overlay.Addr) error {
	index, err := s.number(a.Dev)
	if err != nil {
		return err
	}
	return s.do(func(h *netlink.Handle) error { return h.AddrReplace(at(index), address(a)) })
}

func (s *space) deleteAddress(a overlay.Addr) error {
	index, err := s.number(a.Dev)
	if err == nil {
		err = s.do(func(h *netlink.Handle) error { return h.AddrDel(at(index), address(a)) })
	}
	return absent(err, unix.ENODEV, unix.EADDRNOTAVAIL)
}

// address is without broadcast address.
func address(a overlay.Addr) *netlink.Addr {
	addr := &netlink.Addr{IPNet: toIPNet(a.Prefix), Broadcast: net.IPv4zero, Scope: unix.RT_SCOPE_UNIVERSE}
	addr.Flags = unix.IFA_F_NOPREFIXROUTE | int(noDAD(a.Prefix.Addr()))
	if a.Local() {
		addr.Scope = unix.RT_SCOPE_HOST
	}
	return addr
}

// noDAD: the pool has made the address unique, and the second that duplicate
// address detection takes (RFC 4862) would delay the first packet.
func noDAD(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(toAddr(n.IP), bits)
}

// addresses dumps the addresses of a namespace.
func (s *space) addresses() ([]netlink.Addr, error) {
	return dump(s, func(h *netlink.Handle) ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
}

// addressObject is an address on one of our devices; the kernel's link-local
// ones are not ours.
func addressObject(a *netlink.Addr, dev string) (overlay.Object, bool) {
	if a.Scope == unix.RT_SCOPE_LINK {
		return nil, false
	}
	o := overlay.Addr{Dev: dev, Prefix: toPrefix(a.IPNet)}
	if a.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
		o.Other = "prefix route"
	}
	return o, true
}

// routes dumps routes of the main table that are like one. The kernel leaves out
// those of other protocols and types, so that a full table of a router costs
// nothing.
func (s *space) routes(family int, like netlink.Route, by uint64) ([]netlink.Route, error) {
	like.Table = unix.RT_TABLE_MAIN
	all, err := dump(s, func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &like, by|netlink.RT_FILTER_TABLE)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // a kernel without IPv6
	}
	return all, err
}

// ownRoutes dumps the routes of one family that carry our protocol number.
func (s *space) ownRoutes(family int) ([]netlink.Route, error) {
	return s.routes(family, netlink.Route{Protocol: overlay.Protocol}, netlink.RT_FILTER_PROTOCOL)
}

// ip6Metric is the metric that the kernel gives an IPv6 route without one.
const ip6Metric = 1024

func routeObject(r *netlink.Route, dev string) overlay.Route {
	o := overlay.Route{Dst: toPrefix(r.Dst), Metric: uint32(r.Priority), Dev: dev, Src: toAddr(r.Src)}
	if o.Dst.Addr().Is6() && o.Metric == ip6Metric {
		o.Metric = 0
	}
	if gateway := r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0; gateway || r.Type != unix.RTN_UNICAST {
		o.Other = fmt.Sprintf("type %d gateway %t", r.Type, gateway)
	}
	return o
}

// putRoute replaces a route of ours but never another's of the same
// destination: that one is somebody's working network.
func (s *space) putRoute(o overlay.Route) error {
	r, err := s.route(o)
	if err != nil {
		return err
	}
	err = s.do(func(h *netlink.Handle) error { return h.RouteAdd(r) })
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	own, listErr := s.ownRoutes(int(family(o.Dst.Addr())))
	if listErr != nil {
		return listErr
	}
	for i := range own {
		if routeObject(&own[i], "").Key() == o.Key() {
			return s.do(func(h *netlink.Handle) error { return h.RouteReplace(r) })
		}
	}
	return fmt.Errorf("another route to %s that is not ours: %w", o.Dst, err)
}

func (s *space) deleteRoute(o overlay.Route) error {
	r, err := s.route(o)
	if err == nil {
		r.Src = nil
		err = s.do(func(h *netlink.Handle) error { return h.RouteDel(r) })
	}
	return absent(err, unix.ESRCH, unix.ENODEV)
}

// route is an object as the library takes it.
func (s *space) route(o overlay.Route) (*netlink.Route, error) {
	dev, err := s.number(o.Dev)
	return &netlink.Route{
		Dst: toIPNet(o.Dst), LinkIndex: dev, Src: o.Src.AsSlice(), Priority: int(o.Metric),
		Protocol: overlay.Protocol, Scope: netlink.SCOPE_LINK,
	}, err
}
