package linux

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// device is a link with what the library does not read of it.
type device struct {
	netlink.Link
	wrong     []knob             // attributes of its kind with another value than ours
	other     string             // they, named
	identity  string             // likewise, of those that a tunnel device keeps for ever
	stp       bool               // of a bridge: it runs
	port      overlay.BridgePort // its flags in its bridge; no names
	wrongPort []knob             // likewise
	isPort    bool
	protoDown bool
	dormant   bool
	conf4     []byte // ipv4.conf as an array of numbers
	conf6     []byte // ipv6.conf likewise; nil where IPv6 is off altogether
	genMode   uint8
}

// newDevice reads a link message, and keeps nothing of it.
func newDevice(body []byte) (device, error) {
	link, err := netlink.LinkDeserialize(nil, body)
	if err != nil {
		return device{}, err
	}
	d := device{Link: link}
	d.read(body)
	return d, nil
}

// read is what the library leaves out.
func (d *device) read(body []byte) {
	for typ, data := range attributes(body, unix.SizeofIfInfomsg) {
		switch typ {
		case unix.IFLA_LINKINFO:
			d.readInfo(data)
		case unix.IFLA_AF_SPEC:
			d.readConf(data)
		case unix.IFLA_PROTO_DOWN:
			d.protoDown = asU8(data) != 0
		case unix.IFLA_LINKMODE:
			d.dormant = asU8(data) != 0
		}
	}
}

func (d *device) readInfo(b []byte) {
	for typ, data := range attributes(b, 0) {
		switch typ {
		case nl.IFLA_INFO_DATA:
			d.readKind(data)
		case nl.IFLA_INFO_SLAVE_KIND:
			d.isPort = unix.ByteSliceToString(data) == "bridge"
		case nl.IFLA_INFO_SLAVE_DATA:
			if d.isPort {
				d.port = d.readPort(data)
			}
		}
	}
}

func (d *device) readKind(b []byte) {
	switch link := d.Link.(type) {
	case *netlink.Bridge:
		d.wrong, d.other = deviating(b, bridgeKnobs)
		d.stp = slices.ContainsFunc(d.wrong, func(k knob) bool { return k.attr == unix.IFLA_BR_STP_STATE })
	case *netlink.Vxlan:
		d.wrong, d.other = deviating(b, tunnelKnobs)
		_, d.identity = deviating(b, tunnelIdentity)
		d.other = words(d.other, d.identity)
		if link.Group != nil && !link.Group.IsUnspecified() {
			d.other = words(d.other, "remote "+link.Group.String())
		}
	}
}

func (d *device) readPort(b []byte) (p overlay.BridgePort) {
	d.wrongPort, p.Other = deviating(b, portKnobs)
	for typ, data := range attributes(b, 0) {
		switch typ {
		case unix.IFLA_BRPORT_UNICAST_FLOOD:
			p.Flood = asU8(data) != 0
		case unix.IFLA_BRPORT_MCAST_FLOOD:
			p.MulticastFlood = asU8(data) != 0
		case unix.IFLA_BRPORT_STATE:
			if state := asU8(data); state != portForwarding && d.carries() {
				p.Other = words(p.Other, fmt.Sprintf("state %d", state))
			}
		}
	}
	return p
}

// carries reports whether a device has carrier. Without it the bridge disables a port
// by itself. A tunnel device has no state but its carrier.
func (d *device) carries() bool {
	a := d.Attrs()
	return a.RawFlags&unix.IFF_LOWER_UP != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
}

// portForwarding is the state of a port that passes frames (BR_STATE_FORWARDING).
const portForwarding = 3

// flags are the flags of each device of ours.
const (
	flagsOn  = unix.IFF_UP | unix.IFF_MULTICAST
	flagsOff = unix.IFF_NOARP
)

// deviates is what is not as in a device of ours of a kind.
func (d *device) deviates(kind overlay.LinkKind) string {
	a := d.Attrs()
	all := d.other
	for _, f := range []struct {
		bit, want uint32
		name      string
	}{{unix.IFF_UP, unix.IFF_UP, "down"}, {unix.IFF_MULTICAST, unix.IFF_MULTICAST, "multicast off"}, {unix.IFF_NOARP, 0, "arp off"}} {
		if a.RawFlags&f.bit != f.want {
			all = words(all, f.name)
		}
	}
	if d.protoDown {
		all = words(all, "protodown on")
	}
	if d.dormant {
		all = words(all, "mode dormant")
	}
	if a.MasterIndex != 0 && alone(kind) {
		all = words(all, fmt.Sprintf("master %d", a.MasterIndex))
	}
	return all
}

// alone reports whether devices of a kind belong to no other device: that of the
// rest is a BridgePort.
func alone(kind overlay.LinkKind) bool { return kind == overlay.Bridge || kind == overlay.Gateway }

// inetConf is the attribute of AF_SPEC that holds a device's settings: of IPv4
// IFLA_INET_CONF, of IPv6 IFLA_INET6_CONF.
const (
	inetConf  = 1
	inet6Conf = 2
)

func (d *device) readConf(b []byte) {
	for family, spec := range attributes(b, 0) {
		for typ, data := range attributes(spec, 0) {
			switch {
			case family == unix.AF_INET && typ == inetConf:
				d.conf4 = slices.Clone(data)
			case family == unix.AF_INET6 && typ == inet6Conf:
				d.conf6 = slices.Clone(data)
			case family == unix.AF_INET6 && typ == unix.IFLA_INET6_ADDR_GEN_MODE:
				d.genMode = asU8(data)
			}
		}
	}
}

// conf reads one number of a conf array.
func conf(array []byte, i int) uint32 { return asU32(array[min(4*i, len(array)):]) }

func number(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}
