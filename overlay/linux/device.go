package linux

import (
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// device is a link with what the library does not read of it.
type device struct {
	netlink.Link
	stp, delay uint32             // of a bridge
	port       overlay.BridgePort // its flags in its bridge; no names
	isPort     bool
	conf4      []byte // ipv4.conf as an array of numbers
	conf6      []byte // ipv6.conf likewise; nil where IPv6 is off altogether
	genMode    uint8
}

// read keeps nothing of body.
func (d *device) read(body []byte) {
	for typ, data := range attributes(body, unix.SizeofIfInfomsg) {
		switch typ {
		case unix.IFLA_LINKINFO:
			d.readInfo(data)
		case unix.IFLA_AF_SPEC:
			d.readConf(data)
		}
	}
}

func (d *device) readInfo(b []byte) {
	for typ, data := range attributes(b, 0) {
		switch typ {
		case nl.IFLA_INFO_DATA:
			for typ, data := range attributes(data, 0) {
				switch typ {
				case nl.IFLA_BR_STP_STATE:
					d.stp = asU32(data)
				case nl.IFLA_BR_FORWARD_DELAY:
					d.delay = asU32(data)
				}
			}
		case nl.IFLA_INFO_SLAVE_KIND:
			d.isPort = unix.ByteSliceToString(data) == "bridge"
		case nl.IFLA_INFO_SLAVE_DATA:
			if d.isPort {
				d.port = readPort(data)
			}
		}
	}
}

func readPort(b []byte) overlay.BridgePort {
	var p overlay.BridgePort
	flags := map[uint16]uint32{}
	for typ, data := range attributes(b, 0) {
		if len(data) == 1 {
			flags[typ] = uint32(data[0])
		}
	}
	p.Flood, p.MulticastFlood = flags[nl.IFLA_BRPORT_UNICAST_FLOOD] != 0, flags[nl.IFLA_BRPORT_MCAST_FLOOD] != 0
	p.Other = deviation(setting{"learning", flags[nl.IFLA_BRPORT_LEARNING], 0}, setting{"bcast_flood", flags[nl.IFLA_BRPORT_BCAST_FLOOD], 1},
		setting{"neigh_suppress", flags[nl.IFLA_BRPORT_NEIGH_SUPPRESS], 0}, setting{"isolated", flags[nl.IFLA_BRPORT_ISOLATED], 0})
	return p
}

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
