package linux

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

const (
	// tunnelTTL is the outer hop limit; the inner one must not decide how far a
	// tunnel packet travels.
	tunnelTTL = 64
	// vethPeer is VETH_INFO_PEER: the other end, as a message within a message.
	vethPeer = 1
)

// putLink makes a device or changes the one that is there.
func (k *Kernel) putLink(want overlay.Link) error {
	s := k.space(want.Place)
	have, err := s.link(want.Name)
	if errors.Is(err, unix.ENODEV) {
		return k.makeLink(want)
	}
	if err != nil {
		return err
	}
	if k.mustReplace(want, have) {
		if err := s.deleteLink(want.Name); err != nil {
			return err
		}
		return k.makeLink(want)
	}
	return k.changeLink(want, have)
}

// mustReplace reports whether the kernel cannot turn the device into ours.
func (k *Kernel) mustReplace(want overlay.Link, have link) bool {
	switch want.Kind {
	case overlay.Bridge:
		return have.kind != "bridge"
	case overlay.VXLAN:
		v := parseVXLAN(have.data)
		return have.kind != "vxlan" || v.vni != want.VNI || v.port != want.Port ||
			v.local.Is4() != want.Local.Is4() || v.other != ""
	case overlay.Gateway:
		peer, err := k.fabric.link(want.Peer)
		return have.kind != "veth" || err != nil || have.peer != peer.index
	}
	return false
}

func (k *Kernel) makeLink(want overlay.Link) error {
	var e encoder
	at := k.space(want.Place)
	from := at
	switch want.Kind {
	case overlay.Bridge:
		beginNew(&e, want)
		e.nest(unix.IFLA_LINKINFO, func() { bridgeInfo(&e) })
	case overlay.VXLAN:
		// Asked for on a socket of the host, the device lives in the fabric while
		// its UDP socket, and with it every outer packet, stays in the host.
		from = k.host
		beginNew(&e, want)
		e.u32(unix.IFLA_NET_NS_FD, uint32(k.fabric.ns.Fd()))
		e.nest(unix.IFLA_LINKINFO, func() { vxlanInfo(&e, want) })
	case overlay.Gateway:
		beginNew(&e, want)
		e.nest(unix.IFLA_LINKINFO, func() { k.gatewayInfo(&e, want) })
	default:
		return unix.ENODEV // made together with its other end
	}
	e.end()
	err := from.one(&e)
	if errors.Is(err, unix.EEXIST) && want.Kind == overlay.VXLAN {
		err = k.makeLeaked(&e, want, err)
	}
	if err != nil {
		return err
	}
	have, err := at.link(want.Name)
	if err != nil {
		return err
	}
	return k.changeLink(want, have)
}

func beginNew(e *encoder, want overlay.Link) {
	e.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifInfo(0, 0, 0))
	e.str(unix.IFLA_IFNAME, want.Name)
	linkSettings(e, want)
}

func linkSettings(e *encoder, want overlay.Link) {
	if !want.MAC.IsZero() {
		e.attr(unix.IFLA_ADDRESS, want.MAC[:])
	}
	e.u32(unix.IFLA_MTU, uint32(want.MTU))
	e.u32(unix.IFLA_GROUP, want.Group)
}

func bridgeInfo(e *encoder) {
	e.attr(unix.IFLA_INFO_KIND, []byte("bridge"))
	e.nest(unix.IFLA_INFO_DATA, func() {
		e.u32(unix.IFLA_BR_STP_STATE, 0)
		e.u32(unix.IFLA_BR_FORWARD_DELAY, 0)
		e.u32(unix.IFLA_BR_AGEING_TIME, 0)
		e.u8(unix.IFLA_BR_MCAST_SNOOPING, 0)
		e.u16(unix.IFLA_BR_GROUP_FWD_MASK, 0)
		// Without a VLAN of its own the bridge keeps one entry per address.
		e.u16(unix.IFLA_BR_VLAN_DEFAULT_PVID, 0)
	})
}

func vxlanInfo(e *encoder, want overlay.Link) {
	e.attr(unix.IFLA_INFO_KIND, []byte("vxlan"))
	e.nest(unix.IFLA_INFO_DATA, func() {
		e.u32(unix.IFLA_VXLAN_ID, want.VNI)
		localInfo(e, want)
		e.be16(unix.IFLA_VXLAN_PORT, want.Port)
		e.u8(unix.IFLA_VXLAN_TTL, tunnelTTL)
		e.u8(unix.IFLA_VXLAN_LEARNING, 0)
		e.u8(unix.IFLA_VXLAN_PROXY, 1)
		e.u8(unix.IFLA_VXLAN_RSC, 0)
		e.u8(unix.IFLA_VXLAN_L2MISS, 0)
		e.u8(unix.IFLA_VXLAN_L3MISS, 0)
	})
}

func localInfo(e *encoder, want overlay.Link) {
	if want.Local.Is4() {
		e.addr(unix.IFLA_VXLAN_LOCAL, want.Local)
	} else {
		e.addr(unix.IFLA_VXLAN_LOCAL6, want.Local)
	}
}

func (k *Kernel) gatewayInfo(e *encoder, want overlay.Link) {
	e.attr(unix.IFLA_INFO_KIND, []byte("veth"))
	e.nest(unix.IFLA_INFO_DATA, func() {
		e.nest(vethPeer, func() {
			e.b = append(e.b, ifInfo(0, 0, 0)...)
			e.str(unix.IFLA_IFNAME, want.Peer)
			e.u32(unix.IFLA_MTU, uint32(want.MTU))
			e.u32(unix.IFLA_NET_NS_FD, uint32(k.fabric.ns.Fd()))
		})
	})
}

// changeLink gives an existing device our settings and sets it up.
func (k *Kernel) changeLink(want overlay.Link, have link) error {
	s := k.space(want.Place)
	if want.Kind == overlay.VXLAN && parseVXLAN(have.data).local != want.Local {
		if err := s.changeLocal(want, have); err != nil {
			return err
		}
	}
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(have.index, unix.IFF_UP, unix.IFF_UP))
	linkSettings(&e, want)
	e.str(unix.IFLA_IFALIAS, want.Alias)
	if want.Kind == overlay.Bridge {
		e.nest(unix.IFLA_LINKINFO, func() { bridgeInfo(&e) })
	}
	e.end()
	err := s.one(&e)
	if want.Kind == overlay.VXLAN && errors.Is(err, unix.EADDRINUSE) {
		// The socket is opened when the device goes up, not when it is made.
		return fmt.Errorf("udp port %d: %w: %w", want.Port, overlay.ErrPortTaken, err)
	}
	if err == nil && want.Kind == overlay.EndpointPeer && have.mtu != want.MTU {
		return k.sandboxMTU(have, want.MTU)
	}
	return err
}

// changeLocal changes the source address of a tunnel device in place. The
// message holds nothing else: the kernel refuses one that repeats the port or
// the MTU.
func (s *space) changeLocal(want overlay.Link, have link) error {
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(have.index, 0, 0))
	e.nest(unix.IFLA_LINKINFO, func() {
		e.attr(unix.IFLA_INFO_KIND, []byte("vxlan"))
		e.nest(unix.IFLA_INFO_DATA, func() { localInfo(&e, want) })
	})
	e.end()
	return s.one(&e)
}

// putPort enslaves a device to its bridge.
func (k *Kernel) putPort(want overlay.BridgePort) error {
	index, err := k.fabric.number(want.Dev)
	if err != nil {
		return err
	}
	bridge, err := k.fabric.number(want.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", want.Bridge, err)
	}
	// The settings exist once the device is a port, so they are a second message.
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(index, 0, 0))
	e.u32(unix.IFLA_MASTER, uint32(bridge))
	e.end()
	if err := k.fabric.one(&e); err != nil {
		return err
	}
	e = encoder{}
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(index, 0, 0))
	e.nest(unix.IFLA_LINKINFO, func() { portInfo(&e, want) })
	e.end()
	if err := k.fabric.one(&e); err != nil {
		return err
	}
	// Asking for both ends makes the kernel work off their carrier now, see
	// plug.carries: the first packet to the gateway waits for nothing.
	port, err := k.fabric.link(want.Dev)
	if err == nil && port.kind == "veth" {
		_, _ = k.host.linkAt(port.peer)
	}
	return err
}

func portInfo(e *encoder, want overlay.BridgePort) {
	e.attr(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
	e.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
		e.u8(unix.IFLA_BRPORT_LEARNING, 0)
		e.flag(unix.IFLA_BRPORT_UNICAST_FLOOD, want.Flood)
		e.flag(unix.IFLA_BRPORT_MCAST_FLOOD, want.MulticastFlood)
		e.u8(unix.IFLA_BRPORT_BCAST_FLOOD, 1)
		e.u8(unix.IFLA_BRPORT_NEIGH_SUPPRESS, 0)
		e.u8(unix.IFLA_BRPORT_ISOLATED, 0)
	})
}

func (k *Kernel) deletePort(p overlay.BridgePort) error {
	index, err := k.fabric.number(p.Dev)
	if err != nil {
		return absent(err, unix.ENODEV)
	}
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(index, 0, 0))
	e.u32(unix.IFLA_MASTER, 0)
	e.end()
	return absent(k.fabric.one(&e), unix.ENODEV)
}
