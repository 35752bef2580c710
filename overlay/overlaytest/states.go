package overlaytest

import (
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/overlay"
)

// NamedState is a state with a name that says what is special about it.
type NamedState struct {
	Name  string
	State overlay.State
}

// States are states such that going from any to any other is a step that a
// host may have to take. All are complete, and their tunnel address is vtep.
func States(vtep netip.Addr) []NamedState {
	empty := overlay.State{Cluster: Cluster, VTEP: vtep, Port: 4799, AgentPorts: []uint16{4798}, Complete: true}
	with := func(change func(s *overlay.State)) overlay.State {
		s := empty
		s.Members = []netip.Addr{vtep, Peer(vtep, 2), Peer(vtep, 3)}
		s.Networks = []overlay.Network{Probe(vtep), Blue(vtep)}
		change(&s)
		return s
	}
	blue := func(change func(n *overlay.Network)) overlay.State {
		return with(func(s *overlay.State) { change(&s.Networks[1]) })
	}
	return []NamedState{
		{"member of no network", empty},
		{"one network", with(func(*overlay.State) {})},
		{"one network with a local endpoint", blue(func(n *overlay.Network) { n.Ports = []overlay.Port{Port(9)} })},
		{"remote endpoints", blue(func(n *overlay.Network) {
			n.Remotes = []overlay.Remote{Remote(vtep, 5, 2), Remote(vtep, 6, 2), Remote(vtep, 7, 3)}
		})},
		{"one of them moved to another member", blue(func(n *overlay.Network) {
			n.Remotes = []overlay.Remote{Remote(vtep, 5, 2), Remote(vtep, 6, 3), Remote(vtep, 7, 3)}
		})},
		{"one of them moved here", with(func(s *overlay.State) {
			s.Networks[1].Remotes = []overlay.Remote{Remote(vtep, 5, 2), Remote(vtep, 7, 3)}
			s.Networks[1].Ports = []overlay.Port{Port(6)}
			s.Elsewhere = []netip.Prefix{prefix("10.65.0.0/24"), prefix("2001:db8:65::/64")}
		})},
		{"smaller underlay", with(func(s *overlay.State) { s.Networks[0].MTU, s.Networks[1].MTU = 1350, 1350 })},
		{"a host address", blue(func(n *overlay.Network) { n.HostAddrs = []netip.Addr{Addr(200)}; n.HostAccess = true })},
		{"an internal network", blue(func(n *overlay.Network) { n.Internal = true })},
		{"with IPv6", blue(func(n *overlay.Network) {
			n.Subnets = append(n.Subnets, overlay.Subnet{CIDR: prefix("2001:db8:64::/64"), Gateway: addr("2001:db8:64::1")})
			n.Remotes = []overlay.Remote{
				{Addr: Addr(5), MAC: MAC(5), VTEP: Peer(vtep, 2)}, {Addr: addr("2001:db8:64::5"), MAC: MAC(5), VTEP: Peer(vtep, 2)},
			}
		})},
		{"published ports", blue(func(n *overlay.Network) {
			n.Ports = []overlay.Port{Port(9)}
			n.Published = []overlay.Publish{Published(8080, 9), {Proto: 17, HostAddr: addr("127.0.0.1"), HostPort: 5353, Addr: Addr(9), Port: 53}}
		})},
		{"the ports of another endpoint", blue(func(n *overlay.Network) {
			n.Ports = []overlay.Port{Port(10)}
			n.Published = []overlay.Publish{Published(8080, 10)}
		})},
		{"two networks", with(func(s *overlay.State) { s.Networks = append(s.Networks, green(vtep)) })},
		{"the other network", with(func(s *overlay.State) { s.Networks[1] = green(vtep) })},
		{"questions redirected", with(func(s *overlay.State) {
			s.Questions = overlay.Questions{Address: true, Redirected: []netip.Addr{addr("8.8.8.8"), addr("192.0.2.53"), addr("2001:db8::53")}}
		})},
		{"all questions redirected", with(func(s *overlay.State) { s.Questions.All = true })},
		{"another tunnel port", with(func(s *overlay.State) { s.Port = 4798 })},
	}
}

// Cluster is the id of the cluster in States.
const Cluster = "00112233445566778899aabbccddeeff"

// Probe is the members' own network: a tunnel device without a bridge.
func Probe(vtep netip.Addr) overlay.Network {
	return overlay.Network{
		VNI: 1, ID: "ffffffffffffffffffffffffffffffff", Name: "probe", MTU: 1450, Probe: true, GatewayMAC: MAC(251),
		Remotes: []overlay.Remote{{MAC: MAC(252), VTEP: Peer(vtep, 2)}, {MAC: MAC(253), VTEP: Peer(vtep, 3)}},
	}
}

// Blue is an ordinary network, 10.64.0.0/24.
func Blue(netip.Addr) overlay.Network {
	return overlay.Network{
		VNI: 4096, ID: "0123456789abcdef0123456789abcdef", Name: "blue", MTU: 1450,
		Subnets:    []overlay.Subnet{{CIDR: prefix("10.64.0.0/24"), Gateway: Addr(1)}},
		GatewayMAC: MAC(1), HostAccess: true,
	}
}

func green(vtep netip.Addr) overlay.Network {
	return overlay.Network{
		VNI: 4097, ID: "fedcba9876543210fedcba9876543210", Name: "green", MTU: 1450,
		Subnets:    []overlay.Subnet{{CIDR: prefix("10.65.0.0/24"), Gateway: addr("10.65.0.1")}},
		GatewayMAC: MAC(2),
		Remotes:    []overlay.Remote{{Addr: addr("10.65.0.5"), MAC: MAC(65), VTEP: Peer(vtep, 2)}},
	}
}

// Addr is address i of Blue.
func Addr(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 64, 0, i}) }

// MAC is the hardware address of endpoint i.
func MAC(i byte) overlay.MAC { return overlay.MAC{0x0e, 0x01, 10, 64, 0, i} }

// Peer is the tunnel address of member i, of the family of vtep.
func Peer(vtep netip.Addr, i byte) netip.Addr {
	if vtep.Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, i})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: i})
}

// Remote is endpoint i of Blue on another member.
func Remote(vtep netip.Addr, i, member byte) overlay.Remote {
	return overlay.Remote{Addr: Addr(i), MAC: MAC(i), VTEP: Peer(vtep, member)}
}

// Port is endpoint i of Blue on this host.
func Port(i byte) overlay.Port {
	return overlay.Port{Endpoint: fmt.Sprintf("%02x%014x", i, i), MAC: MAC(i), Addrs: []netip.Addr{Addr(i)}}
}

// Published is a port of the host, over TCP, that leads to port 80 of endpoint i
// of Blue.
func Published(hostPort uint16, i byte) overlay.Publish {
	return overlay.Publish{Proto: 6, HostPort: hostPort, Addr: Addr(i), Port: 80}
}

// Endpoint is what has to be attached for a port of a network.
func Endpoint(n overlay.Network, p overlay.Port) overlay.Endpoint {
	ep := overlay.Endpoint{
		ID: p.Endpoint, VNI: n.VNI, Network: n.ID, Cluster: Cluster, Ifname: "eth0", MAC: p.MAC, MTU: n.MTU,
	}
	for _, a := range p.Addrs {
		for _, s := range n.Subnets {
			if s.CIDR.Contains(a) {
				ep.Addrs = append(ep.Addrs, netip.PrefixFrom(a, s.CIDR.Bits()))
				ep.Gateways = append(ep.Gateways, s.Gateway)
			}
		}
	}
	return ep
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
