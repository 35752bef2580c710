package overlay

import (
	"fmt"
	"net/netip"
	"strings"
)

// LinkKind says what a link is for.
type LinkKind uint8

const (
	Bridge       LinkKind = iota + 1 // the switch of a network
	VXLAN                            // its tunnel device (RFC 7348)
	Gateway                          // veth end in the host namespace
	GatewayPeer                      // the bridge's end of the gateway, made with it
	EndpointPeer                     // the bridge's end of an endpoint, made by Attach
	Foreign                          // a device of somebody else with a name of ours; Other is its kind
)

// Link is a network device. A device that is down, or has another setting than
// String says, is told apart by Other.
type Link struct {
	Place Place
	Name  string
	Kind  LinkKind
	MAC   MAC // zero: the kernel's choice
	MTU   int
	Group uint32
	Alias string

	// Of a VXLAN device.
	VNI   uint32
	Local netip.Addr // source address of the tunnel, decides its family
	Port  uint16     // UDP destination port

	Peer string // the other end of a gateway's veth

	// Other says what in the kernel deviates from String. It is empty in
	// everything we want.
	Other string
}

// LinkKey is the kernel's index of devices: a name in a namespace.
type LinkKey struct {
	Place Place
	Name  string
}

// Key is the device's name.
func (l Link) Key() Key { return LinkKey{l.Place, l.Name} }

// Rank places links after the rules that guard them.
func (l Link) Rank() Rank { return RankLink }

// Replaces reports whether the kernel cannot turn old into l: the identity of a
// tunnel (VNI, port, address family) is fixed when it is made.
func (l Link) Replaces(old Link) bool {
	if l.Kind != old.Kind || l.Peer != old.Peer {
		return true
	}
	return l.Kind == VXLAN &&
		(l.VNI != old.VNI || l.Port != old.Port || l.Local.Is4() != old.Local.Is4())
}

// String is the ip-link(8) command that makes the device, or that changes the
// device which another command makes.
func (l Link) String() string {
	set := fmt.Sprintf("%s set %s alias %q up", l.ip(), l.Name, l.Alias)
	switch l.Kind {
	case Bridge:
		return l.add("ip -n weft link") + " type bridge stp_state 0 forward_delay 0 ageing_time 0 mcast_snooping 0" +
			" group_fwd_mask 0 vlan_default_pvid 0 && " + set + l.other()
	case VXLAN:
		return l.add("ip link") + fmt.Sprintf(" netns weft type vxlan id %d local %s dstport %d ttl 64 nolearning proxy && ",
			l.VNI, l.Local, l.Port) + set + l.other()
	case Gateway:
		return l.add("ip link") + fmt.Sprintf(" type veth peer name %s netns weft && ", l.Peer) + set + l.other()
	}
	return fmt.Sprintf("%s set %s%s mtu %d group %d alias %q up%s", l.ip(), l.Name, l.address(), l.MTU, l.Group, l.Alias, l.other())
}

// Deletion is the command that removes the device.
func (l Link) Deletion() string { return fmt.Sprintf("%s del %s", l.ip(), l.Name) }

func (l Link) ip() string { return l.program() + " link" }

func (l Link) program() string { return strings.TrimSpace("ip " + inFabric(l.Place)) }

func (l Link) add(ip string) string {
	return fmt.Sprintf("%s add %s%s mtu %d group %d", ip, l.Name, l.address(), l.MTU, l.Group)
}

func (l Link) address() string {
	if l.MAC.IsZero() {
		return ""
	}
	return " address " + l.MAC.String()
}

func (l Link) other() string { return comment(l.Other) }

func (l Link) device() LinkKey { return LinkKey{l.Place, l.Name} }

// BridgePort is a device's membership in a bridge. Learning is off on each of
// them: the cluster knows where every address is, and a frame with a forged
// source must not teach the bridge otherwise.
type BridgePort struct {
	Dev    string
	Bridge string
	// Flood sends frames for unknown unicast addresses here. It is set on the
	// VXLAN device alone, which makes that the bridge's default route.
	Flood bool
	// MulticastFlood lets neighbour solicitations (RFC 4861) reach the port.
	MulticastFlood bool
	Other          string // as in Link
}

// bridgePortKey is the name of the enslaved device.
type bridgePortKey struct{ Dev string }

// Key is the device: it can have one master.
func (p BridgePort) Key() Key { return bridgePortKey{p.Dev} }

// Rank places ports after the links that they join.
func (p BridgePort) Rank() Rank { return RankPort }

// String is the ip-link(8) command.
func (p BridgePort) String() string {
	return fmt.Sprintf("ip -n weft link set %s master %s type bridge_slave learning off flood %s mcast_flood %s bcast_flood on%s",
		p.Dev, p.Bridge, onOff(p.Flood), onOff(p.MulticastFlood), comment(p.Other))
}

// Deletion is the command that takes the device out of the bridge.
func (p BridgePort) Deletion() string { return fmt.Sprintf("ip -n weft link set %s nomaster", p.Dev) }

func (p BridgePort) device() LinkKey { return LinkKey{Fabric, p.Dev} }

func inFabric(p Place) string {
	if p == Fabric {
		return "-n weft"
	}
	return ""
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// comment makes what deviates a shell comment, so that the line stays a command.
func comment(other string) string {
	if other == "" {
		return ""
	}
	return " # but " + other
}
