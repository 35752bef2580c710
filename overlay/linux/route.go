package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

func (k *Kernel) encodeAddr(e *encoder, a overlay.Addr, deleting bool) error {
	dev, err := k.host.number(a.Dev)
	if err != nil {
		return err
	}
	typ, flags := uint16(unix.RTM_NEWADDR), uint16(unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	if deleting {
		typ, flags = unix.RTM_DELADDR, 0
	}
	addressMessage(e, typ, flags, dev, a.Prefix, scopeOf(a), addrFlags(a.Prefix))
	return nil
}

func scopeOf(a overlay.Addr) uint8 {
	if a.Local() {
		return unix.RT_SCOPE_HOST
	}
	return unix.RT_SCOPE_UNIVERSE
}

// addrFlags: the route is ours to make, and every host has the gateway address.
func addrFlags(p netip.Prefix) uint32 {
	if p.Addr().Is6() {
		return unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD
	}
	return unix.IFA_F_NOPREFIXROUTE
}

func addressMessage(e *encoder, typ, flags uint16, dev int, p netip.Prefix, scope uint8, ifaFlags uint32) {
	e.begin(typ, flags, ifAddr(family(p.Addr()), uint8(p.Bits()), 0, scope, dev))
	e.addr(unix.IFA_LOCAL, p.Addr())
	e.addr(unix.IFA_ADDRESS, p.Addr())
	e.u32(unix.IFA_FLAGS, ifaFlags)
	e.end()
}

type address struct {
	dev    int
	prefix netip.Prefix
	flags  uint32
	scope  uint8
}

func parseAddress(body []byte) (address, bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return address{}, false
	}
	a := address{dev: int(binary.NativeEndian.Uint32(body[4:])), flags: uint32(body[2]), scope: body[3]}
	var ip netip.Addr
	for typ, data := range attributes(body[unix.SizeofIfAddrmsg:]) {
		switch typ {
		case unix.IFA_LOCAL:
			ip = asAddr(data)
		case unix.IFA_ADDRESS:
			if !ip.IsValid() {
				ip = asAddr(data)
			}
		case unix.IFA_FLAGS:
			a.flags = asU32(data)
		}
	}
	a.prefix = netip.PrefixFrom(ip, int(body[1]))
	return a, true
}

func (s *space) addresses() ([]address, error) {
	var e encoder
	e.begin(unix.RTM_GETADDR, 0, ifAddr(unix.AF_UNSPEC, 0, 0, 0, 0))
	e.end()
	return dump(s.conn, &e, parseAddress)
}

// object is an address on one of our devices; the kernel's link-local ones are
// not ours.
func (a *address) object(dev string) (overlay.Object, bool) {
	if a.scope == unix.RT_SCOPE_LINK {
		return nil, false
	}
	o := overlay.Addr{Dev: dev, Prefix: a.prefix}
	if a.flags&unix.IFA_F_NOPREFIXROUTE == 0 {
		o.Other = "prefix route"
	}
	return o, true
}

func (k *Kernel) sendRoute(r overlay.Route, typ, flags uint16) error {
	dev, err := k.host.number(r.Dev)
	if err != nil {
		return err
	}
	var e encoder
	e.begin(typ, flags, rtMsg(family(r.Dst.Addr()), uint8(r.Dst.Bits()), unix.RT_TABLE_MAIN, overlay.Protocol,
		unix.RT_SCOPE_LINK, unix.RTN_UNICAST))
	e.addr(unix.RTA_DST, r.Dst.Addr())
	e.u32(unix.RTA_OIF, uint32(dev))
	if typ == unix.RTM_NEWROUTE {
		e.addr(unix.RTA_PREFSRC, r.Src)
	}
	if r.Metric != 0 {
		e.u32(unix.RTA_PRIORITY, r.Metric)
	}
	e.end()
	return k.host.one(&e)
}

type route struct {
	dst      netip.Prefix
	table    uint32
	protocol uint8
	scope    uint8
	typ      uint8
	dev      int
	src      netip.Addr
	gateway  bool
	via      netip.Addr
	metric   uint32
	mtu      int
}

func parseRoute(body []byte) (route, bool) {
	if len(body) < unix.SizeofRtMsg {
		return route{}, false
	}
	r := route{table: uint32(body[4]), protocol: body[5], scope: body[6], typ: body[7]}
	dst := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for typ, data := range attributes(body[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST:
			dst = asAddr(data)
		case unix.RTA_TABLE:
			r.table = asU32(data)
		case unix.RTA_OIF:
			r.dev = int(asU32(data))
		case unix.RTA_PREFSRC:
			r.src = asAddr(data)
		case unix.RTA_PRIORITY:
			r.metric = asU32(data)
		case unix.RTA_GATEWAY:
			r.gateway, r.via = true, asAddr(data)
		case unix.RTA_VIA, unix.RTA_MULTIPATH:
			r.gateway = true
		case unix.RTA_METRICS:
			r.mtu = parseMTU(data)
		}
	}
	r.dst = netip.PrefixFrom(dst, int(body[1]))
	return r, true
}

func parseMTU(metrics []byte) int {
	for typ, data := range attributes(metrics) {
		if typ == unix.RTAX_MTU {
			return int(asU32(data))
		}
	}
	return 0
}

// ownRoutes dumps the routes of one family that carry our protocol number. The
// kernel filters them, so that a full table of a router costs nothing.
func (s *space) ownRoutes(family uint8) ([]route, error) {
	var e encoder
	e.begin(unix.RTM_GETROUTE, 0, rtMsg(family, 0, unix.RT_TABLE_MAIN, overlay.Protocol, 0, 0))
	e.end()
	return dump(s.conn, &e, func(body []byte) (route, bool) {
		r, ok := parseRoute(body)
		return r, ok && r.protocol == overlay.Protocol && r.table == unix.RT_TABLE_MAIN
	})
}

// ip6Metric is the metric that the kernel gives an IPv6 route without one.
const ip6Metric = 1024

func (r *route) object(dev string) overlay.Object {
	o := overlay.Route{Dst: r.dst, Metric: r.metric, Dev: dev, Src: r.src}
	if r.dst.Addr().Is6() && o.Metric == ip6Metric {
		o.Metric = 0
	}
	if r.gateway || r.typ != unix.RTN_UNICAST {
		o.Other = fmt.Sprintf("type %d gateway %t", r.typ, r.gateway)
	}
	return o
}

// putRoute replaces a route of ours but never another's of the same
// destination: that one is somebody's working network.
func (k *Kernel) putRoute(r overlay.Route) error {
	err := k.sendRoute(r, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	own, listErr := k.host.ownRoutes(family(r.Dst.Addr()))
	if listErr != nil {
		return listErr
	}
	for i := range own {
		if own[i].object("").Key() == r.Key() {
			return k.sendRoute(r, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
		}
	}
	return fmt.Errorf("another route to %s that is not ours: %w", r.Dst, err)
}

func (k *Kernel) deleteRoute(r overlay.Route) error {
	return absent(k.sendRoute(r, unix.RTM_DELROUTE, 0), unix.ESRCH, unix.ENODEV)
}
