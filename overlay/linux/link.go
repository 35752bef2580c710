package linux

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// tunnelTTL is the outer hop limit; the inner one must not decide how far a
// tunnel packet travels.
const tunnelTTL = 64

// links makes devices and changes them.
type links struct {
	host, fabric *space
	log          *slog.Logger
}

func (k *links) space(p overlay.Place) *space {
	if p == overlay.Fabric {
		return k.fabric
	}
	return k.host
}

// put makes a device or changes the one that is there.
func (k *links) put(want overlay.Link) error {
	s := k.space(want.Place)
	have, err := s.device(want.Name)
	if errors.Is(err, unix.ENODEV) {
		have, err = s.rename(want.Name)
	}
	if errors.Is(err, unix.ENODEV) {
		return k.make(want)
	}
	if err == nil {
		err = k.refuse(want, &have)
	}
	if err != nil {
		return err
	}
	if k.mustReplace(want, &have) {
		if err := s.deleteLink(want.Name); err != nil {
			return err
		}
		return k.make(want)
	}
	return k.change(want, &have)
}

// refuse is the error for a device that is not ours to change.
func (k *links) refuse(want overlay.Link, have *device) error {
	if want.Kind == overlay.GatewayPeer {
		if g, err := k.host.device(want.Peer); err == nil && isPeer(&g, have) && have.Attrs().ParentIndex == g.Attrs().Index {
			return nil
		}
	}
	return refuse(want.Place, have)
}

// rename gives a device the name that the last listing found it should have. The error
// is ENODEV when there is none. Before Linux 6.2 it has to be down.
func (s *space) rename(name string) (device, error) {
	index, ok := s.index.getRenamed(name)
	if !ok {
		return device{}, unix.ENODEV
	}
	set := func(h *netlink.Handle) error { return h.LinkSetName(at(index), name) }
	err := s.do(set)
	if errors.Is(err, unix.EBUSY) {
		err = errors.Join(s.do(func(h *netlink.Handle) error { return h.LinkSetDown(at(index)) }), s.do(set))
	}
	if err != nil {
		return device{}, err
	}
	return s.device(name)
}

// mustReplace reports whether the kernel cannot turn the device into ours.
func (k *links) mustReplace(want overlay.Link, have *device) bool {
	switch want.Kind {
	case overlay.Bridge:
		return have.Type() != "bridge"
	case overlay.VXLAN:
		v, ok := have.Link.(*netlink.Vxlan)
		return !ok || v.VxlanId != int(want.VNI) || v.Port != int(want.Port) || toAddr(v.SrcAddr).Is4() != want.Local.Is4() ||
			have.identity != ""
	case overlay.Gateway:
		peer, err := k.fabric.link(want.Peer)
		return have.Type() != "veth" || err != nil || have.Attrs().ParentIndex != peer.Attrs().Index
	}
	return false
}

func (k *links) make(want overlay.Link) error {
	var err error
	switch want.Kind {
	case overlay.Bridge:
		err = k.fabric.do(func(h *netlink.Handle) error { return h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs(want)}) })
	case overlay.VXLAN:
		err = k.makeVXLAN(want)
		if errors.Is(err, unix.EEXIST) {
			err = k.makeLeaked(want, err)
		}
	case overlay.Gateway:
		err = k.makeGateway(want)
		if errors.Is(err, unix.EEXIST) && k.fabric.deleteLink(want.Peer) == nil {
			err = k.makeGateway(want) // its other end had been left alone: somebody moved this one away
		}
	default:
		return unix.ENODEV // made together with its other end
	}
	if err != nil {
		return lacking(map[overlay.LinkKind]string{overlay.Bridge: "bridge", overlay.VXLAN: "vxlan", overlay.Gateway: "veth"}[want.Kind], err)
	}
	have, err := k.space(want.Place).device(want.Name)
	if err != nil {
		return err
	}
	return k.change(want, &have)
}

func (k *links) makeGateway(want overlay.Link) error {
	veth := netlink.NewVeth(attrs(want))
	veth.PeerName, veth.PeerMTU, veth.PeerNamespace = want.Peer, uint32(want.MTU), netlink.NsFd(k.fabric.ns.Fd())
	return k.host.do(func(h *netlink.Handle) error { return h.LinkAdd(veth) })
}

// makeVXLAN asks for the device on a socket of the host: it lives in the fabric
// while its UDP socket, and with it every outer packet, stays in the host.
func (k *links) makeVXLAN(want overlay.Link) error {
	a := attrs(want)
	a.Namespace = netlink.NsFd(k.fabric.ns.Fd())
	v := &netlink.Vxlan{LinkAttrs: a, VxlanId: int(want.VNI), SrcAddr: want.Local.AsSlice(), Port: int(want.Port), TTL: tunnelTTL, Proxy: true}
	return k.host.do(func(h *netlink.Handle) error { return h.LinkAdd(v) })
}

// attrs are the settings that every device has, but for its alias: that is set
// last, since by it a whole device is known as ours.
func attrs(want overlay.Link) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.Group = want.Name, want.MTU, want.Group
	if !want.MAC.IsZero() {
		a.HardwareAddr = want.MAC[:]
	}
	return a
}

// change gives an existing device our settings and sets it up.
func (k *links) change(want overlay.Link, have *device) error {
	s := k.space(want.Place)
	if v, ok := have.Link.(*netlink.Vxlan); ok && want.Kind == overlay.VXLAN && (toAddr(v.SrcAddr) != want.Local || have.other != "") {
		if err := s.change(func(r *requests) error { return r.setTunnel(have, want.Local) }); err != nil {
			return err
		}
	}
	err := s.change(func(r *requests) error { return r.setLink(have, want) })
	if want.Kind == overlay.VXLAN && errors.Is(err, unix.EADDRINUSE) {
		// The socket is opened when the device goes up, not when it is made.
		return fmt.Errorf("udp port %d: %w: %w", want.Port, overlay.ErrPortTaken, err)
	}
	if err == nil && want.Kind == overlay.EndpointPeer && have.Attrs().MTU != want.MTU {
		return k.sandboxMTU(have.Attrs(), want.MTU)
	}
	return err
}

// putPort enslaves a device to its bridge. The port's flags exist once it is a
// port, so they are a second request.
func (k *links) putPort(want overlay.BridgePort) error {
	index, err := k.fabric.number(want.Dev)
	if err != nil {
		return err
	}
	bridge, err := k.fabric.number(want.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", want.Bridge, err)
	}
	err = k.fabric.do(func(h *netlink.Handle) error { return h.LinkSetMasterByIndex(at(index), bridge) })
	if err != nil {
		return err
	}
	port, err := k.fabric.device(want.Dev)
	if err != nil {
		return err
	}
	if err := k.fabric.change(func(r *requests) error { return r.setPort(&port, want) }); err != nil {
		return err
	}
	// Asking for both ends makes the kernel work off their carrier now, see
	// plug.carries: the first packet to the gateway waits for nothing.
	if port.Type() == "veth" {
		_, _ = k.fabric.link(want.Dev)
		_, _ = k.host.linkAt(port.Attrs().ParentIndex)
	}
	return nil
}

func (k *links) deletePort(p overlay.BridgePort) error {
	index, err := k.fabric.number(p.Dev)
	if err == nil {
		err = k.fabric.do(func(h *netlink.Handle) error { return h.LinkSetNoMaster(at(index)) })
	}
	return absent(err, unix.ENODEV)
}

// makeLeaked makes a tunnel device whose VNI is still taken by one in a fabric
// that lost its name but not its last user. The VNI is the host namespace's, so
// nothing in the new fabric can free it. A gateway port of the old one still
// knows that namespace by number, and by that number the device is removed.
func (k *links) makeLeaked(want overlay.Link, taken error) error {
	all, err := k.host.links()
	if err != nil {
		return errors.Join(taken, err)
	}
	for _, l := range all {
		number := peerNS(l.Attrs())
		if !isGateway(l) || number < 0 {
			continue
		}
		if k.host.change(func(r *requests) error { return r.deleteIn(number, want.Name) }) == nil {
			k.log.Info("device of a lost fabric removed", "dev", want.Name)
			return k.makeVXLAN(want)
		}
	}
	return taken
}

// at is the device with an index, for calls that look at no more of it.
func at(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// peerNS is the number of the namespace with the device's other end; -1: this
// one. The library reads it without its sign.
func peerNS(a *netlink.LinkAttrs) int { return int(int32(a.NetNsID)) }

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}
