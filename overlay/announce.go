package overlay

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
)

// Announcement tells the endpoints of a network on this host, and the host itself,
// that an address has another hardware address now (RFC 5227, RFC 4861).
type Announcement struct {
	VNI  uint32
	Addr netip.Addr
	MAC  MAC
}

// String is the command of arping(8) or ndisc6(8) that comes closest.
func (a Announcement) String() string {
	program := "arping -U"
	if a.Addr.Is6() {
		program = "ndsend"
	}
	return fmt.Sprintf("ip netns exec weft %s -I %s %s # is at %s", program, BridgeName(a.VNI), a.Addr, a.MAC)
}

// movesKept bounds what is remembered of addresses that went.
const movesKept = 1 << 16

// moves remembers the hardware address of each address that left a network, until it
// is back: a neighbour may have it in its cache for hours. What comes back with
// another is to be announced.
type moves struct {
	gone map[Announcement]MAC // by an Announcement without MAC
	told []Announcement       // to be announced
}

// left notes that an address is not at a hardware address any more.
func (m *moves) left(a Announcement) {
	key := a
	key.MAC = MAC{}
	if m.gone == nil {
		m.gone = map[Announcement]MAC{}
	}
	if len(m.gone) >= movesKept {
		for other := range m.gone {
			delete(m.gone, other)
			break
		}
	}
	m.gone[key] = a.MAC
}

// came notes that an address is at a hardware address.
func (m *moves) came(a Announcement) {
	key := a
	key.MAC = MAC{}
	if before, ok := m.gone[key]; ok {
		delete(m.gone, key)
		if before != a.MAC {
			m.told = append(m.told, a)
		}
	}
}

// ports notes the local endpoints that a State has no more.
func (m *moves) ports(before, after State) {
	still := map[Announcement]bool{}
	each(after, func(a Announcement) { still[a] = true })
	each(before, func(a Announcement) {
		if !still[a] {
			m.left(a)
		}
	})
}

// each calls do for each address of a local endpoint.
func each(s State, do func(Announcement)) {
	for i := range s.Networks {
		for _, p := range s.Networks[i].Ports {
			for _, addr := range p.Addrs {
				do(Announcement{s.Networks[i].VNI, addr, p.MAC})
			}
		}
	}
}

// put notes what an object that was put says of addresses. before is what the kernel
// had instead, or nil.
func (m *moves) put(before, o Object, network func(vni uint32) *Network) {
	switch o := o.(type) {
	case Neigh:
		if was, ok := before.(Neigh); ok && was.MAC != o.MAC {
			m.left(Announcement{vniOf(o.Dev), was.Addr, was.MAC})
		}
		m.came(Announcement{vniOf(o.Dev), o.Addr, o.MAC})
	case Addr:
		if n := network(vniOf(o.Dev)); n != nil && !o.Local() {
			m.came(Announcement{n.VNI, o.Prefix.Addr(), n.GatewayMAC})
		}
	case Link:
		if was, ok := before.(Link); ok && o.Kind == Gateway && was.MAC != o.MAC {
			m.gateway(network(vniOf(o.Name)), o.MAC)
		}
	}
}

// gateway has the addresses of a gateway port announced.
func (m *moves) gateway(n *Network, mac MAC) {
	if n == nil {
		return
	}
	for _, s := range n.Subnets {
		m.told = append(m.told, Announcement{n.VNI, s.Gateway, mac})
	}
	for _, a := range n.HostAddrs {
		m.told = append(m.told, Announcement{n.VNI, a, mac})
	}
}

// deleted notes what is true no more with an object that went.
func (m *moves) deleted(o Object, network func(vni uint32) *Network) {
	switch o := o.(type) {
	case Neigh:
		m.left(Announcement{vniOf(o.Dev), o.Addr, o.MAC})
	case Addr:
		if n := network(vniOf(o.Dev)); n != nil && !o.Local() {
			m.left(Announcement{n.VNI, o.Prefix.Addr(), n.GatewayMAC})
		}
	}
}

// vniOf is the VNI in a device's name.
func vniOf(dev string) uint32 {
	vni, err := strconv.ParseUint(dev[min(1, len(dev)):], 16, 24)
	if err != nil {
		return 0
	}
	return uint32(vni)
}

// announce sends what has gathered. It is no object of the kernel: when it fails, the
// endpoints find out by themselves, later.
func (o *Overlay) announce(ctx context.Context) {
	told := o.moves.told
	if o.moves.told = nil; len(told) == 0 {
		return
	}
	if err := o.kernel.Announce(ctx, told...); err != nil && ctx.Err() == nil {
		o.log.Warn("endpoints are not told of new hardware addresses", "addresses", len(told), "err", err)
		return
	}
	o.log.Debug("new hardware addresses announced", "addresses", len(told), "first", told[0].Addr, "mac", told[0].MAC)
}
