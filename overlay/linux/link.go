package linux

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// link is a device as the kernel shows it (rtnetlink(7), struct ifinfomsg).
type link struct {
	index     int
	name      string
	alias     string
	kind      string
	slaveKind string
	mac       overlay.MAC
	mtu       int
	group     uint32
	up        bool
	state     uint8 // RFC 2863 ifOperStatus, as IF_OPER_… numbers it
	master    int
	peer      int // index of the device below or at the other end
	peerNS    int // its namespace as seen from this one; -1: this one
	data      []byte
	slaveData []byte
	conf4     []byte // ipv4.conf as an array of numbers
	conf6     []byte // ipv6.conf likewise; nil where IPv6 is off altogether
	genMode   uint8
}

// parseLink reads the answer to RTM_GETLINK. It keeps nothing of body.
func parseLink(body []byte) (link, bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	l := link{
		index:  int(binary.NativeEndian.Uint32(body[4:])),
		up:     binary.NativeEndian.Uint32(body[8:])&unix.IFF_UP != 0,
		peerNS: -1,
	}
	for typ, data := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = asString(data)
		case unix.IFLA_OPERSTATE:
			l.state = asU8(data)
		case unix.IFLA_IFALIAS:
			l.alias = asString(data)
		case unix.IFLA_ADDRESS:
			copy(l.mac[:], data)
		case unix.IFLA_MTU:
			l.mtu = int(asU32(data))
		case unix.IFLA_GROUP:
			l.group = asU32(data)
		case unix.IFLA_MASTER:
			l.master = int(asU32(data))
		case unix.IFLA_LINK:
			l.peer = int(asU32(data))
		case unix.IFLA_LINK_NETNSID:
			l.peerNS = int(int32(asU32(data)))
		case unix.IFLA_LINKINFO:
			l.parseInfo(data)
		case unix.IFLA_AF_SPEC:
			l.parseConf(data)
		}
	}
	return l, true
}

func (l *link) parseInfo(b []byte) {
	for typ, data := range attributes(b) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			l.kind = asString(data)
		case unix.IFLA_INFO_DATA:
			l.data = slices.Clone(data)
		case unix.IFLA_INFO_SLAVE_KIND:
			l.slaveKind = asString(data)
		case unix.IFLA_INFO_SLAVE_DATA:
			l.slaveData = slices.Clone(data)
		}
	}
}

func (l *link) parseConf(b []byte) {
	for family, spec := range attributes(b) {
		for typ, data := range attributes(spec) {
			switch {
			case family == unix.AF_INET && typ == unix.IFLA_INET_CONF:
				l.conf4 = slices.Clone(data)
			case family == unix.AF_INET6 && typ == unix.IFLA_INET6_CONF:
				l.conf6 = slices.Clone(data)
			case family == unix.AF_INET6 && typ == unix.IFLA_INET6_ADDR_GEN_MODE:
				l.genMode = asU8(data)
			}
		}
	}
}

// conf reads one number of a conf array.
func conf(array []byte, i int) uint32 {
	if 4*i+4 > len(array) {
		return 0
	}
	return binary.NativeEndian.Uint32(array[4*i:])
}

// skipStats leaves the counters out of an answer (RTEXT_FILTER_SKIP_STATS).
const skipStats = 1 << 3

// links dumps the devices of a namespace.
func (s *space) links() ([]link, error) {
	var e encoder
	e.begin(unix.RTM_GETLINK, 0, ifInfo(0, 0, 0))
	e.u32(unix.IFLA_EXT_MASK, skipStats)
	e.end()
	all, err := dump(s.conn, &e, parseLink)
	if err == nil {
		s.index.reset(all)
	}
	return all, err
}

// link finds one device by name; the error is ENODEV when there is none.
func (s *space) link(name string) (link, error) {
	var e encoder
	e.begin(unix.RTM_GETLINK, 0, ifInfo(0, 0, 0))
	e.u32(unix.IFLA_EXT_MASK, skipStats)
	e.str(unix.IFLA_IFNAME, name)
	e.end()
	var l link
	if err := s.get(&e, func(body []byte) { l, _ = parseLink(body) }); err != nil {
		return link{}, err
	}
	s.index.set(l.name, l.index)
	return l, nil
}

// number returns the index of a device.
func (s *space) number(name string) (int, error) {
	if i, ok := s.index.get(name); ok {
		return i, nil
	}
	l, err := s.link(name)
	return l.index, err
}

// deleteLink removes a device; an absent one is no error.
func (s *space) deleteLink(name string) error {
	var e encoder
	e.begin(unix.RTM_DELLINK, 0, ifInfo(0, 0, 0))
	e.str(unix.IFLA_IFNAME, name)
	e.end()
	s.index.drop(name)
	return absent(s.one(&e), unix.ENODEV)
}

// vxlanData is what a tunnel device must show (ip-link(8), VXLAN type support).
type vxlanData struct {
	vni   uint32
	local netip.Addr
	port  uint16
	other string
}

func parseVXLAN(b []byte) vxlanData {
	var v vxlanData
	var ttl, learning, proxy uint8
	for typ, data := range attributes(b) {
		switch typ {
		case unix.IFLA_VXLAN_ID:
			v.vni = asU32(data)
		case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
			v.local = asAddr(data)
		case unix.IFLA_VXLAN_PORT:
			v.port = asBE16(data)
		case unix.IFLA_VXLAN_TTL:
			ttl = asU8(data)
		case unix.IFLA_VXLAN_LEARNING:
			learning = asU8(data)
		case unix.IFLA_VXLAN_PROXY:
			proxy = asU8(data)
		}
	}
	v.other = deviation(setting{"ttl", uint32(ttl), tunnelTTL}, setting{"learning", uint32(learning), 0},
		setting{"proxy", uint32(proxy), 1})
	return v
}

// parseBridge returns what deviates from the bridge that we make.
func parseBridge(b []byte) string {
	var stp, delay, ageing, snooping, fwd uint32
	for typ, data := range attributes(b) {
		switch typ {
		case unix.IFLA_BR_STP_STATE:
			stp = asU32(data)
		case unix.IFLA_BR_FORWARD_DELAY:
			delay = asU32(data)
		case unix.IFLA_BR_AGEING_TIME:
			ageing = asU32(data)
		case unix.IFLA_BR_MCAST_SNOOPING:
			snooping = uint32(asU8(data))
		case unix.IFLA_BR_GROUP_FWD_MASK:
			fwd = uint32(asU16(data))
		}
	}
	return deviation(setting{"stp_state", stp, 0}, setting{"forward_delay", delay, 0}, setting{"ageing_time", ageing, 0},
		setting{"mcast_snooping", snooping, 0}, setting{"group_fwd_mask", fwd, 0})
}

// parsePort reads a device's membership in a bridge.
func parsePort(b []byte) overlay.BridgePort {
	var p overlay.BridgePort
	var learning, suppress, isolated, broadcast uint8
	for typ, data := range attributes(b) {
		switch typ {
		case unix.IFLA_BRPORT_LEARNING:
			learning = asU8(data)
		case unix.IFLA_BRPORT_UNICAST_FLOOD:
			p.Flood = asU8(data) != 0
		case unix.IFLA_BRPORT_MCAST_FLOOD:
			p.MulticastFlood = asU8(data) != 0
		case unix.IFLA_BRPORT_BCAST_FLOOD:
			broadcast = asU8(data)
		case unix.IFLA_BRPORT_NEIGH_SUPPRESS:
			suppress = asU8(data)
		case unix.IFLA_BRPORT_ISOLATED:
			isolated = asU8(data)
		}
	}
	p.Other = deviation(setting{"learning", uint32(learning), 0}, setting{"bcast_flood", uint32(broadcast), 1},
		setting{"neigh_suppress", uint32(suppress), 0}, setting{"isolated", uint32(isolated), 0})
	return p
}
