package overlay

import (
	"errors"
	"net/netip"
)

// MAC is a hardware address that can be compared and used as a map key.
type MAC [6]byte

// State is what one host's kernel should carry. It is plain data: equal states
// make equal kernels, and a lost one in between costs nothing.
type State struct {
	// Cluster marks our links (in their alias), so that a restarted agent knows
	// them as its own.
	Cluster string
	// VTEP is this host's tunnel address. It decides the address family of the
	// underlay.
	VTEP netip.Addr
	// Port is the tunnel's UDP port on every member.
	Port uint16
	// Members are the tunnel addresses from which encapsulated packets are
	// taken; everybody else's are dropped.
	Members []netip.Addr
	// MemberAddrs are all addresses of the other members, of both families: what endpoints
	// may not reach of a member they reach at none of them.
	MemberAddrs []netip.Addr
	// AgentPorts are the ports of the members' agents other than the tunnel's, over
	// TCP and UDP: no endpoint reaches them, on any member.
	AgentPorts []uint16
	// Questions says how endpoints' questions for names come here, other than
	// at a gateway's own address.
	Questions Questions
	// Elsewhere are the subnets of the networks that this host does not carry. What
	// this host sends there is refused, unless a route of another program takes it.
	Elsewhere []netip.Prefix
	// Networks that this host carries, sorted by VNI.
	Networks []Network
	// Complete allows sweeping: what is ours in the kernel and not wanted here
	// is deleted. While it is false things are only added and changed.
	Complete bool
}

// Network is one VNI on this host: a bridge and a VXLAN device in the fabric
// namespace and, unless Probe, a gateway port into the host namespace.
type Network struct {
	VNI     uint32
	ID      string // 32 hex digits, for the alias of its links
	Name    string // for the alias and for messages
	MTU     int    // of the inner packet, in bytes; never 0
	Subnets []Subnet
	// GatewayMAC is this host's own: the gateway address is the same on every
	// host, the hardware address is not, so that it may also be a remote's.
	GatewayMAC MAC
	// HostAddrs are the host's own addresses in the network (host_access=full),
	// at most one a family.
	HostAddrs []netip.Addr
	// HostAccess is false for host_access=none: the host may not open
	// connections to endpoints, nor they to it, DNS and ICMP excepted.
	HostAccess bool
	// Internal networks have no way out: no default route, group GRP+1.
	Internal bool
	// Probe networks (VNI 1) have no gateway port and no subnets.
	Probe bool
	// Ports are the local endpoints, sorted by endpoint id.
	Ports []Port
	// Remotes are the endpoints on other members, sorted by address.
	Remotes []Remote
	// Published are the host's ports that lead to local endpoints, sorted. An
	// internal network has none.
	Published []Publish
}

// Subnet is a network's addresses of one family and its anycast gateway.
type Subnet struct {
	CIDR    netip.Prefix
	Gateway netip.Addr
}

// Port is a local endpoint as the bridge sees it: frames from it must carry
// this MAC and one of these addresses, frames to this MAC go to it.
type Port struct {
	Endpoint string // 16 hex digits
	MAC      MAC
	Addrs    []netip.Addr
}

// Remote is one address of an endpoint on another member. An endpoint with an
// IPv4 and an IPv6 address is two of them.
type Remote struct {
	Addr netip.Addr
	MAC  MAC
	VTEP netip.Addr
}

// Endpoint is an interface to be made in a sandbox. It is not part of State:
// it lives and dies with its sandbox.
type Endpoint struct {
	ID      string // 16 hex digits; the link is named after its first 12
	VNI     uint32
	Network string // network id, for the alias of the link
	Cluster string // for the alias of the link
	// Sandbox is the path of a network namespace (/run/netns/NAME,
	// /proc/PID/ns/net). Empty: the interface is left in the host namespace
	// under the name w<first 12 digits of ID> for a runtime to fetch.
	Sandbox string
	Ifname  string // inside the sandbox, such as eth0
	MAC     MAC
	MTU     int
	Addrs   []netip.Prefix // with the length of the subnet
	// Gateways get the default route, at most one a family; empty: none.
	Gateways []netip.Addr
}

// Errors that callers test for with errors.Is. os.ErrNotExist (no such sandbox)
// and os.ErrPermission (no CAP_NET_ADMIN) pass through as well.
var (
	// ErrIfnameTaken: the sandbox has an interface of that name which is not ours.
	ErrIfnameTaken = errors.New("interface name is taken in the sandbox")
	// ErrFabric: the sandbox is an agent's fabric, which carries networks.
	ErrFabric = errors.New("the namespace is the fabric of an agent, which carries networks")
	// ErrPortTaken: another program or VXLAN device of another mode holds the
	// tunnel's UDP port.
	ErrPortTaken = errors.New("tunnel port is taken")
	// ErrForeign: a device that another program made has a name of ours. It is left
	// alone.
	ErrForeign = errors.New("it is not weft's, which needs the name")
	// ErrTooManyPorts: a Linux bridge has at most 1023 ports.
	ErrTooManyPorts = errors.New("too many endpoints of one network on one host")
	// ErrNoNetwork: no State has named the endpoint's network.
	ErrNoNetwork = errors.New("network is not on this host")
	// ErrNoNFT: the host lacks nft(8), which translates the packet filter.
	ErrNoNFT = errors.New("nft(8) is missing, which is in the package nftables")
)
