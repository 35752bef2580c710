package linux

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// Around returns what other programs have in the way of endpoints' packets.
func (k *Kernel) Around(_ context.Context, about overlay.Interest) (out overlay.Surroundings, err error) {
	k.host.watched.Store(&about.Subnets)
	host := survey{k.host}
	if out.Routes, err = host.overlaps(about.Subnets); err != nil {
		return out, err
	}
	out.Filters, err = k.nft.Droppers(host.flows(about))
	return out, err
}

// survey looks at the host's namespace for what other programs have there.
type survey struct{ *space }

// flows are the directions in which endpoints' packets are forwarded, and their questions
// for names, which the host takes in.
func (s survey) flows(about overlay.Interest) (all []nft.Flow) {
	var world nft.Device
	if len(about.Uplinks) > 0 {
		world = s.filterDevice(about.Uplinks[0], 0)
	}
	for _, w := range about.Ways {
		port := s.filterDevice(w.Dev, overlay.Group)
		for _, a := range w.Addrs {
			all = append(all,
				nft.Flow{Name: "questions for names", Hook: nft.Input, In: port, Src: a, Proto: unix.IPPROTO_UDP, Port: 53},
				nft.Flow{Name: "egress", In: port, Out: world, Src: a},
				nft.Flow{Name: "answers to it", In: world, Out: port, Dst: a, FromWorld: true, Established: true})
			if about.Published && a.Is4() {
				all = append(all, nft.Flow{Name: "published ports", In: world, Out: port, Dst: a, FromWorld: true, Translated: true})
			}
		}
	}
	return all
}

func (s survey) filterDevice(name string, group uint32) nft.Device {
	index, _ := s.index.get(name)
	return nft.Device{Name: name, Index: uint32(index), Group: group}
}

// watches reports whether a route leads into a subnet that is watched.
func (s *space) watches(r *nl.RtMsg, body []byte) bool {
	subnets := s.watched.Load()
	if subnets == nil {
		return false
	}
	for typ, data := range attributes(body, unix.SizeofRtMsg) {
		if a, ok := netip.AddrFromSlice(data); typ == unix.RTA_DST && ok {
			dst := netip.PrefixFrom(a, int(r.Dst_len))
			return slices.ContainsFunc(*subnets, dst.Overlaps)
		}
	}
	return false
}

// overlaps are the routes of other programs, in any table, that lead to addresses of
// the subnets. The default route of the main table leads to all that has no other.
func (s survey) overlaps(subnets []netip.Prefix) (all []overlay.Overlap, err error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		subnets := slices.DeleteFunc(slices.Clone(subnets), func(p netip.Prefix) bool { return p.Addr().Is4() != (family == unix.AF_INET) })
		if len(subnets) == 0 {
			continue
		}
		routes, err := s.every(family)
		if err != nil {
			return nil, err
		}
		for i := range routes {
			if r := &routes[i]; s.foreign(r) {
				all = append(all, s.overlapping(r, subnets)...)
			}
		}
	}
	slices.SortFunc(all, overlay.Overlap.Compare)
	return all, nil
}

// every dumps the routes of all tables.
func (s survey) every(family int) ([]netlink.Route, error) {
	all, err := dump(s.space, func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // a kernel without IPv6
	}
	return all, err
}

// kinds are the types of routes that end a look-up, as ip-route(8) calls them.
var kinds = map[int]string{unix.RTN_UNICAST: "", unix.RTN_LOCAL: "local", unix.RTN_BLACKHOLE: "blackhole",
	unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit"}

// foreign reports whether a route is another program's. The kernel makes routes for
// our own addresses too; those of the address for names lead into no subnet.
func (s survey) foreign(r *netlink.Route) bool {
	_, known := kinds[r.Type]
	world := r.Table == unix.RT_TABLE_MAIN && toPrefix(r.Dst).Bits() == 0
	return known && !world && r.Protocol != overlay.Protocol && !s.index.isOurs(r.LinkIndex)
}

// overlapping pairs a route with the subnets that it leads into.
func (s survey) overlapping(r *netlink.Route, subnets []netip.Prefix) (all []overlay.Overlap) {
	dst := toPrefix(r.Dst)
	if !dst.IsValid() { // the default route of a table
		dst = netip.PrefixFrom(unspecified(subnets[0]), 0)
	}
	for _, subnet := range subnets {
		if !dst.Overlaps(subnet) {
			continue
		}
		o := overlay.Overlap{Subnet: subnet, Route: overlay.ForeignRoute{Dst: dst, Kind: kinds[r.Type], Via: toAddr(r.Gw), Table: uint32(r.Table)}}
		if l, err := s.linkAt(outOf(r)); err == nil {
			o.Route.Dev = l.Attrs().Name
		}
		o.Taken = slices.ContainsFunc(samples(o.Cut()), func(a netip.Addr) bool { return s.takes(r, dst, a) })
		all = append(all, o)
	}
	return all
}

func unspecified(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// outOf is the device of a route, the first of several.
func outOf(r *netlink.Route) int {
	if r.LinkIndex == 0 && len(r.MultiPath) > 0 {
		return r.MultiPath[0].LinkIndex
	}
	return r.LinkIndex
}

// samples are addresses of a prefix: at its end, where no gateway is by default, and
// before its middle, since a part may be another route's.
func samples(p netip.Prefix) []netip.Addr {
	half := p
	if p.Bits() < p.Addr().BitLen() {
		half = netip.PrefixFrom(p.Addr(), p.Bits()+1)
	}
	return []netip.Addr{endOf(p), endOf(half)}
}

// endOf is the last address of a prefix but that for broadcasts.
func endOf(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(last); i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	if p.Bits() < a.BitLen()-1 {
		a = a.Prev()
	}
	return a
}

// takes asks the kernel, with all its rules and tables, whether it chooses the route
// for a packet of this host to an address. An address of the host comes before all.
func (s survey) takes(r *netlink.Route, dst netip.Prefix, to netip.Addr) bool {
	if r.Type == unix.RTN_LOCAL {
		return true
	}
	found, err := ask(s.space, func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	})
	if err != nil || len(found) == 0 {
		return r.Type != unix.RTN_UNICAST // it refuses
	}
	f := &found[0]
	same := toPrefix(f.Dst)
	if !same.IsValid() {
		same = netip.PrefixFrom(unspecified(dst), 0)
	}
	return same == dst && f.Table == r.Table && outOf(f) == outOf(r)
}

// putProhibit makes the route unless it is there. Nothing else has its metric.
func (s *space) putProhibit(o overlay.Prohibit) error {
	return s.do(func(h *netlink.Handle) error { return h.RouteReplace(prohibit(o)) })
}

func (s *space) deleteProhibit(o overlay.Prohibit) error {
	return absent(s.do(func(h *netlink.Handle) error { return h.RouteDel(prohibit(o)) }), unix.ESRCH, unix.ENODEV)
}

func prohibit(o overlay.Prohibit) *netlink.Route {
	return &netlink.Route{Dst: toIPNet(o.Dst), Type: unix.RTN_PROHIBIT, Priority: overlay.LastMetric, Protocol: overlay.Protocol}
}

// dropProhibits removes every such route. The others go with their device.
func (s *space) dropProhibits() error {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := s.ownRoutes(family)
		errs = append(errs, err)
		for i := range all {
			if o, ok := prohibitObject(&all[i]); ok {
				errs = append(errs, s.deleteProhibit(o))
			}
		}
	}
	return errors.Join(errs...)
}

func prohibitObject(r *netlink.Route) (overlay.Prohibit, bool) {
	return overlay.Prohibit{Dst: toPrefix(r.Dst)}, r.Type == unix.RTN_PROHIBIT && uint32(r.Priority) == overlay.LastMetric
}
