package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Publish is a port of this host that leads to a port of a local endpoint:
// connections to it are answered by the endpoint, which sees their true source
// unless that is this host or another endpoint of it.
type Publish struct {
	Proto    uint8      `json:"proto"`              // 6 is TCP, 17 is UDP
	HostAddr netip.Addr `json:"host_addr,omitzero"` // IPv4; zero: every address of the host
	HostPort uint16     `json:"host_port"`
	Addr     netip.Addr `json:"addr"` // of the endpoint, IPv4
	Port     uint16     `json:"port"`
	// Masquerade is for an endpoint without a default route, which could answer
	// nobody: all its clients come from the gateway.
	Masquerade bool `json:"masquerade,omitempty"`
}

// String is the notation of docker ps: 0.0.0.0:8080->80/tcp.
func (p Publish) String() string {
	host := p.HostAddr
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	return fmt.Sprintf("%s:%d->%d/%s", host, p.HostPort, p.Port, protocolName(p.Proto))
}

// Compare orders by host port, address and protocol.
func (p Publish) Compare(o Publish) int {
	return cmp.Or(cmp.Compare(p.HostPort, o.HostPort), p.HostAddr.Compare(o.HostAddr), cmp.Compare(p.Proto, o.Proto),
		p.Addr.Compare(o.Addr), cmp.Compare(p.Port, o.Port))
}

// atLoopback reports whether the host's own 127.0.0.1 leads to the endpoint.
func (p Publish) atLoopback() bool { return !p.HostAddr.IsValid() || p.HostAddr.IsLoopback() }

func protocolName(proto uint8) string {
	switch proto {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return fmt.Sprint(proto)
}

// published are the elements of the maps by which the host's ports lead to
// endpoints.
func (f *filter) published(n *Network) {
	masked := map[netip.Addr]bool{}
	for _, p := range n.Published {
		if p.Masquerade && !masked[p.Addr] {
			masked[p.Addr] = true
			f.add(NFElement{Place: Host, Set: "masked4", Addr: single(p.Addr)})
		}
		e := NFElement{Place: Host, Set: "pub4", Proto: p.Proto, Port: p.HostPort, ToAddr: p.Addr, ToPort: p.Port}
		if p.HostAddr.IsValid() {
			e.Set, e.Addr = "bound4", single(p.HostAddr)
		}
		f.add(e)
	}
}
