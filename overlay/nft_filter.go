package overlay

import (
	"cmp"
	_ "embed" // the rules are files
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed nft_host.nft
	hostRules string
	//go:embed nft_fabric.nft
	fabricRules string
)

// filterObjects is the packet filter that a state needs: two tables, which
// depend on the tunnel alone, and the elements of their sets, which carry
// everything that changes. It is pure. Without a tunnel address there is
// nothing to guard.
func filterObjects(s State, known facts) []Object {
	if !s.VTEP.IsValid() {
		return nil
	}
	f := filter{objects: []Object{hostTable(s.VTEP, s.Port), fabricTable()}}
	f.members(s)
	for _, port := range s.AgentPorts {
		f.add(NFElement{Place: Host, Set: "agents", Port: port})
	}
	f.subnets(s.Networks)
	f.questions(s.Questions, known.bridges)
	f.uplinks(known.uplinks)
	for i := range s.Networks {
		if n := &s.Networks[i]; !n.Probe {
			f.gateway(n)
			f.ports(n)
			f.published(n)
		}
	}
	return f.objects
}

// uplinks are those between which nobody asked the host to route: that packets are
// forwarded which come by them is our doing, for the endpoints.
func (f *filter) uplinks(u Uplinks) {
	if u.Routed || len(u.Devices) < 2 {
		return
	}
	for _, dev := range u.Devices {
		f.add(NFElement{Place: Host, Set: "uplinks", Dev: dev})
	}
}

func hostTable(vtep netip.Addr, port uint16) NFTable {
	ip, nfproto := "ip", "ipv4"
	if vtep.Is6() {
		ip, nfproto = "ip6", "ipv6"
	}
	rules := strings.NewReplacer(
		"$port", strconv.Itoa(int(port)), "$vtep", vtep.String(),
		"$ip", ip, "$nfproto", nfproto, "$addr", nfproto+"_addr",
		"$names", DNSAddr.String(), "$redirected", strconv.Itoa(RedirectPort),
		"$group", fmt.Sprintf("%#x", Group), "$internal", fmt.Sprintf("%#x", GroupInternal),
	).Replace(hostRules)
	return NFTable{Place: Host, Family: "inet", Name: "weft", Rules: blocks(rules)}
}

func fabricTable() NFTable {
	return NFTable{Place: Fabric, Family: "bridge", Name: "weft", Rules: blocks(fabricRules)}
}

// blocks returns the sets and chains in a file of one table, without comments
// and in the order of NFTable.Rules.
func blocks(file string) string {
	type block struct{ head, text string }
	var all []block
	for line := range strings.Lines(file) {
		switch statement := strings.TrimSpace(line); {
		case statement == "" || statement[0] == '#' || line[0] != '\t':
		case strings.HasSuffix(statement, "{"):
			all = append(all, block{statement, line})
		default:
			all[len(all)-1].text += line
		}
	}
	slices.SortFunc(all, func(a, b block) int {
		return cmp.Or(cmp.Compare(b.head[0], a.head[0]), cmp.Compare(a.head, b.head))
	})
	var text strings.Builder
	for _, b := range all {
		text.WriteString(b.text)
	}
	return text.String()
}

type filter struct{ objects []Object }

func (f *filter) add(e NFElement) { f.objects = append(f.objects, e) }

// members are the senders of encapsulated packets. The host itself is none: it
// reaches its endpoints without the tunnel, so a packet from its own address
// is forged, by a neighbour or by a local process.
func (f *filter) members(s State) {
	for _, a := range s.Members {
		if a.Is4() == s.VTEP.Is4() && a != s.VTEP {
			f.add(NFElement{Place: Host, Set: "vteps", Addr: single(a)})
		}
	}
	for _, a := range s.MemberAddrs {
		f.add(NFElement{Place: Host, Set: "hosts" + version(a), Addr: single(a)})
	}
}

// subnets are those of all networks, without any that lies in another: the
// elements of an interval set must not overlap.
func (f *filter) subnets(networks []Network) {
	var all []netip.Prefix
	for _, n := range networks {
		for _, s := range n.Subnets {
			all = append(all, s.CIDR.Masked())
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	var last netip.Prefix
	for _, p := range all {
		if last.IsValid() && last.Overlaps(p) {
			continue
		}
		last = p
		f.add(NFElement{Place: Host, Set: "nets" + version(p.Addr()), Addr: p})
	}
}

// gateway is what endpoints of a network may reach of the host itself.
func (f *filter) gateway(n *Network) {
	dev := GatewayName(n.VNI)
	for _, s := range n.Subnets {
		f.local(dev, s.Gateway)
	}
	for _, a := range n.HostAddrs {
		f.local(dev, a)
	}
	f.near(n)
	if !n.HostAccess {
		f.add(NFElement{Place: Host, Set: "closed", Dev: dev})
	}
}

func (f *filter) local(dev string, a netip.Addr) {
	if a.IsValid() {
		f.add(NFElement{Place: Host, Set: "local" + version(a), Dev: dev, Addr: single(a)})
	}
}

// near is what the host reaches of a network in which it has no address of its own:
// every host has the gateway's, so an endpoint of another host answers that one.
func (f *filter) near(n *Network) {
	dev := GatewayName(n.VNI)
	for _, s := range n.Subnets {
		if n.source(s) == s.Gateway {
			f.add(NFElement{Place: Host, Set: "near" + version(s.Gateway), Dev: dev})
		}
	}
	for _, p := range n.Ports {
		for _, a := range p.Addrs {
			f.add(NFElement{Place: Host, Set: "here" + version(a), Dev: dev, Addr: single(a)})
		}
	}
}

// portsSet begins the names of the sets that ports fills.
const portsSet = "ports"

// ports are the addresses that each local endpoint may send from.
func (f *filter) ports(n *Network) {
	for _, p := range n.Ports {
		dev := EndpointName(p.Endpoint)
		for _, a := range sources(p) {
			f.add(NFElement{Place: Fabric, Set: portsSet + version(a), Dev: dev, MAC: p.MAC, Addr: single(a)})
		}
	}
}

// sources are an endpoint's addresses and those that its kernel uses of its own
// accord: none yet, and with IPv6 the link-local one.
func sources(p Port) []netip.Addr {
	var v4, v6 bool
	for _, a := range p.Addrs {
		v4 = v4 || a.Is4()
		v6 = v6 || a.Is6()
	}
	all := slices.Clone(p.Addrs)
	if v4 {
		all = append(all, netip.IPv4Unspecified())
	}
	if v6 {
		all = append(all, netip.IPv6Unspecified(), linkLocal(p.MAC))
	}
	return all
}

// linkLocal is the address fe80::/64 with the modified EUI-64 of a hardware
// address (RFC 4291, appendix A), which Linux gives an interface by default.
func linkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5],
	})
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// version is the digit at the end of the name of a set of addresses.
func version(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}
