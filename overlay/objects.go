package overlay

import (
	"net/netip"
	"slices"
	"strconv"
)

// objects is the desired state as kernel objects, in the order in which the
// kernel needs them within each rank. It is pure: equal states give equal
// objects.
func objects(s State, f facts) []Object {
	b := builder{cluster: s.Cluster, vtep: s.VTEP, port: s.Port, routed: map[netip.Prefix]bool{}}
	b.objects = make([]Object, 0, sizeHint(s))
	b.namespaces(s, f.uplinks.Devices)
	b.questions(s.Questions)
	b.accepts(s, f.guards)
	for _, n := range s.Networks {
		b.network(n)
	}
	b.elsewhere(s.Elsewhere, f.around)
	return append(b.objects, filterObjects(s, f)...)
}

func sizeHint(s State) int {
	n := 64 + len(s.Members)
	for i := range s.Networks {
		n += 24 + 2*len(s.Networks[i].Remotes) + 4*len(s.Networks[i].Ports)
	}
	return n
}

type builder struct {
	cluster string
	vtep    netip.Addr
	port    uint16
	routed  map[netip.Prefix]bool
	objects []Object
}

func (b *builder) add(o ...Object) { b.objects = append(b.objects, o...) }

// namespaces are the settings of the fabric and of the host. Frames between
// endpoints must not meet a packet filter in the fabric, whatever loads
// br_netfilter, and the host forwards what comes by its uplinks and the gateway
// ports alone: net.ipv4.ip_forward would open every other interface too. That it
// does not route between its uplinks is the filter's business.
func (b *builder) namespaces(s State, uplinks []string) {
	b.add(Mount{})
	for _, name := range []string{
		"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
		"net.bridge.bridge-nf-call-arptables", "net.ipv4.ip_forward",
	} {
		b.add(Sysctl{Fabric, name, "0"})
	}
	b.add(Sysctl{Fabric, "net.ipv6.conf.all.disable_ipv6", "1"}, Sysctl{Fabric, "net.ipv6.conf.default.disable_ipv6", "1"})
	v4, v6 := leadsOut(s.Networks)
	for _, dev := range uplinks {
		if v4 {
			b.add(Sysctl{Host, Conf("ipv4", dev, "forwarding"), "1"})
		}
		if v6 {
			// A forwarding host ignores router advertisements unless told twice.
			b.add(Sysctl{Host, Conf("ipv6", dev, "accept_ra"), "2"})
		}
	}
	if v6 {
		b.add(Sysctl{Host, forwardIPv6, "1"})
	}
}

// leadsOut reports the families in which some network reaches the world.
func leadsOut(networks []Network) (v4, v6 bool) {
	for _, n := range networks {
		if n.Internal || n.Probe {
			continue
		}
		v4 = v4 || n.has(netip.Addr.Is4)
		v6 = v6 || n.has(netip.Addr.Is6)
	}
	return v4, v6
}

func (n *Network) has(family func(netip.Addr) bool) bool {
	for _, s := range n.Subnets {
		if family(s.CIDR.Addr()) {
			return true
		}
	}
	return false
}

func (n *Network) group() uint32 {
	if n.Internal {
		return GroupInternal
	}
	return Group
}

func (b *builder) network(n Network) {
	b.vxlan(n)
	if !n.Probe {
		b.bridge(n)
		b.gateway(n)
	}
	for _, p := range n.Ports {
		b.endpoint(n, p)
	}
	b.remotes(n)
}

func (b *builder) vxlan(n Network) {
	mac := linkMAC('v', n.VNI)
	if n.Probe && !n.GatewayMAC.IsZero() {
		mac = n.GatewayMAC
	}
	b.add(Link{
		Place: Fabric, Name: VXLANName(n.VNI), Kind: VXLAN, MAC: mac, MTU: n.MTU, Group: n.group(),
		Alias: networkAlias(b.cluster, n), VNI: n.VNI, Local: b.vtep, Port: b.port,
	})
	// The device answers neighbour solicitations only where IPv6 runs, but it
	// must not speak for itself: no link-local address.
	b.add(Sysctl{Fabric, Conf("ipv6", VXLANName(n.VNI), "addr_gen_mode"), "1"},
		Sysctl{Fabric, Conf("ipv6", VXLANName(n.VNI), "disable_ipv6"), zeroIf(n.has(netip.Addr.Is6))})
}

// zeroIf is for settings that switch something off.
func zeroIf(on bool) string {
	if on {
		return "0"
	}
	return "1"
}

func (b *builder) bridge(n Network) {
	bridge := BridgeName(n.VNI)
	b.add(Link{
		Place: Fabric, Name: bridge, Kind: Bridge, MAC: linkMAC('b', n.VNI), MTU: n.MTU, Group: n.group(),
		Alias: networkAlias(b.cluster, n),
	})
	b.add(BridgePort{Dev: VXLANName(n.VNI), Bridge: bridge, Flood: true, MulticastFlood: n.has(netip.Addr.Is6)})
	b.add(BridgePort{Dev: GatewayPeerName(n.VNI), Bridge: bridge, MulticastFlood: true})
	b.add(BridgeFDB{Bridge: bridge, MAC: n.GatewayMAC, Dev: GatewayPeerName(n.VNI)})
}

func (b *builder) gateway(n Network) {
	g, p := GatewayName(n.VNI), GatewayPeerName(n.VNI)
	alias := networkAlias(b.cluster, n)
	b.add(
		Link{Place: Host, Name: g, Kind: Gateway, MAC: n.GatewayMAC, MTU: n.MTU, Group: n.group(), Alias: alias, Peer: p},
		Link{Place: Fabric, Name: p, Kind: GatewayPeer, MAC: linkMAC('p', n.VNI), MTU: n.MTU, Group: n.group(), Alias: alias, Peer: g},
	)
	b.gatewayConf(n)
	// A host's own address comes first, so that the kernel prefers it as source:
	// a reply to the gateway's address would end at the remote's own host.
	for _, a := range n.HostAddrs {
		if s, ok := n.subnetOf(a); ok {
			b.add(Addr{Dev: g, Prefix: netip.PrefixFrom(a, s.CIDR.Bits())})
		}
	}
	for _, s := range n.Subnets {
		b.add(Addr{Dev: g, Prefix: netip.PrefixFrom(s.Gateway, s.CIDR.Bits())})
		b.add(Route{Dst: s.CIDR.Masked(), Metric: b.metric(s.CIDR.Masked(), n.VNI), Dev: g, Src: n.source(s)})
	}
}

// gatewayConf makes the gateway port answer for its own addresses alone and take no
// advice from endpoints: redirects, source routes, router advertisements. What it
// hears of an address that moved it believes.
func (b *builder) gatewayConf(n Network) {
	g := GatewayName(n.VNI)
	for _, c := range [][2]string{
		{"rp_filter", "2"}, {"arp_ignore", "1"}, {"arp_announce", "2"}, {"send_redirects", "0"}, {"forwarding", zeroIf(n.Internal)},
		// Replies to 127.0.0.1 come in here; in_raw drops everything else that
		// claims such an address.
		{"route_localnet", zeroIf(!slices.ContainsFunc(n.Published, Publish.atLoopback))},
		{"proxy_arp", "0"}, {"proxy_arp_pvlan", "0"}, {"arp_filter", "0"}, {"drop_gratuitous_arp", "0"},
		{"accept_redirects", "0"}, {"accept_source_route", "0"}, {"accept_local", "0"}, {"bc_forwarding", "0"},
	} {
		b.add(Sysctl{Host, Conf("ipv4", g, c[0]), c[1]})
	}
	for _, c := range [][2]string{
		{"accept_ra", "0"}, {"disable_ipv6", zeroIf(n.has(netip.Addr.Is6))},
		{"accept_redirects", "0"}, {"proxy_ndp", "0"}, {"drop_unsolicited_na", "0"},
	} {
		b.add(Sysctl{Host, Conf("ipv6", g, c[0]), c[1]})
	}
}

func (n *Network) subnetOf(a netip.Addr) (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.CIDR.Contains(a) {
			return s, true
		}
	}
	return Subnet{}, false
}

// source is the host's address for packets that it sends into a subnet.
func (n *Network) source(s Subnet) netip.Addr {
	for _, a := range n.HostAddrs {
		if s.CIDR.Contains(a) {
			return a
		}
	}
	return s.Gateway
}

// metric sets apart the routes of two networks with one subnet: the second can
// be reached through a socket bound to its device only.
func (b *builder) metric(dst netip.Prefix, vni uint32) uint32 {
	if b.routed[dst] {
		return vni
	}
	b.routed[dst] = true
	return 0
}

func (b *builder) endpoint(n Network, p Port) {
	dev := EndpointName(p.Endpoint)
	b.add(
		Link{Place: Fabric, Name: dev, Kind: EndpointPeer, MTU: n.MTU, Group: n.group(),
			Alias: EndpointAlias(b.cluster, n.ID, p.Endpoint)},
		BridgePort{Dev: dev, Bridge: BridgeName(n.VNI), MulticastFlood: true},
		BridgeFDB{Bridge: BridgeName(n.VNI), MAC: p.MAC, Dev: dev},
	)
}

// remotes are two entries each: the neighbour entry answers the endpoint's
// question for the hardware address, the FDB entry tells where that is. What is
// local has neither, or the tunnel device would answer for an endpoint that
// answers for itself.
func (b *builder) remotes(n Network) {
	dev := VXLANName(n.VNI)
	v6 := n.has(netip.Addr.Is6)
	addrs, macs := n.local()
	var last MAC
	for _, r := range n.Remotes {
		if macs[r.MAC] || addrs[r.Addr] || !r.VTEP.IsValid() {
			continue
		}
		if r.Addr.IsValid() && (r.Addr.Is4() || v6) {
			b.add(Neigh{Dev: dev, Addr: r.Addr, MAC: r.MAC})
		}
		if r.MAC != last {
			b.add(FDB{Dev: dev, MAC: r.MAC, VTEP: r.VTEP})
			last = r.MAC
		}
	}
}

// local returns the addresses that live on this host.
func (n *Network) local() (map[netip.Addr]bool, map[MAC]bool) {
	addrs, macs := map[netip.Addr]bool{}, map[MAC]bool{}
	if !n.Probe {
		macs[n.GatewayMAC] = true
	}
	for _, a := range n.HostAddrs {
		addrs[a] = true
	}
	for _, p := range n.Ports {
		macs[p.MAC] = true
		for _, a := range p.Addrs {
			addrs[a] = true
		}
	}
	return addrs, macs
}

// superseded are the keys of entries that became wrong because their address
// is local now. They go before anything else, and even while sweeping has to
// wait.
func superseded(s State) map[Key]bool {
	keys := map[Key]bool{}
	for i := range s.Networks {
		n := &s.Networks[i]
		addrs, macs := n.local()
		for a := range addrs {
			keys[neighKey{VXLANName(n.VNI), a}] = true
		}
		for m := range macs {
			keys[fdbKey{Dev: VXLANName(n.VNI), MAC: m}] = true
		}
	}
	return keys
}

// String names the place as the documentation does.
func (p Place) String() string {
	switch p {
	case Host:
		return "host"
	case Fabric:
		return "fabric"
	}
	return "place " + strconv.Itoa(int(p))
}
