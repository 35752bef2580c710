package linux

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// putAddress adds an address of ours. Its route is ours to make, and every host
// has the gateway address. The kernel changes the lifetimes of one that is there; for
// the rest it goes and comes again.
func (s *space) putAddress(a overlay.Addr) error {
	index, err := s.number(a.Dev)
	if err != nil {
		return err
	}
	replace := func(h *netlink.Handle) error { return h.AddrReplace(at(index), address(a)) }
	err = s.do(func(h *netlink.Handle) error { return h.AddrAdd(at(index), address(a)) })
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := s.do(replace); err != nil {
		return err
	}
	all, err := s.addresses()
	for i := range all {
		if all[i].LinkIndex != index || toPrefix(all[i].IPNet) != a.Prefix {
			continue
		}
		if o, ok := addressObject(&all[i], a.Dev); ok && o != a {
			return errors.Join(s.deleteAddress(a), s.do(replace))
		}
	}
	return err
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
func addressObject(a *netlink.Addr, dev string) (overlay.Addr, bool) {
	o := overlay.Addr{Dev: dev, Prefix: toPrefix(a.IPNet)}
	if o.Prefix.Addr().Is6() && o.Prefix.Addr().IsLinkLocalUnicast() {
		return o, false
	}
	want := address(o)
	if a.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
		o.Other = "prefix route"
	}
	if a.Scope != want.Scope {
		o.Other = words(o.Other, fmt.Sprintf("scope %d", a.Scope))
	}
	if a.ValidLft != forever || a.PreferedLft != forever {
		o.Other = words(o.Other, fmt.Sprintf("valid_lft %d preferred_lft %d", a.ValidLft, a.PreferedLft))
	}
	if a.Peer != nil && toPrefix(a.Peer).Addr() != o.Prefix.Addr() {
		o.Other = words(o.Other, "peer "+a.Peer.String())
	}
	return o, true
}

// forever is the lifetime of an address that does not expire.
const forever = math.MaxUint32

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
	if o.Dst.Addr().Is4() && r.Scope != netlink.SCOPE_LINK { // IPv6 has none
		o.Other = words(o.Other, fmt.Sprintf("scope %d", r.Scope))
	}
	for _, m := range []struct {
		name  string
		value int
	}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"hoplimit", r.Hoplimit}, {"window", r.Window}, {"tos", r.Tos}} {
		if m.value != 0 {
			o.Other = words(o.Other, fmt.Sprintf("%s %d", m.name, m.value))
		}
	}
	if r.Encap != nil {
		o.Other = words(o.Other, "encap "+r.Encap.String())
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
