package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// overheadIPv4 and overheadIPv6 are what encapsulation takes from an underlay packet: Ethernet, VXLAN,
// UDP and the outer IP header (RFC 7348, section 5, with an untagged inner
// frame).
const (
	overheadIPv4 = 50
	overheadIPv6 = 70
)

// minMTU is the smallest MTU that IPv4 needs (RFC 791); nothing smaller is
// programmed, whatever a header says.
const minMTU = 576

// Own is what only this host knows: its endpoints and which networks it
// carries.
type Own struct {
	Cluster string // id, for the alias of links
	Locals  []Local
	// Carried networks have devices here: those of Locals, and those whose last
	// endpoint went away a moment ago.
	Carried map[discovery.NetworkID]bool
	// Asking is how the containers here ask for names.
	Asking Asking
}

// plan turns what the cluster is into what this host's kernel and DNS server
// should hold. It is pure: equal arguments give equal results.
func plan(cfg config.Config, s discovery.Snapshot, own Own) (overlay.State, dns.Zone) {
	p := planner{cfg: cfg, snap: s, own: own, members: map[discovery.HostID]discovery.Member{}, beaten: map[discovery.EndpointID]bool{}}
	for _, m := range s.Members {
		p.members[m.ID] = m
	}
	p.records = byNetwork(s.Endpoints)
	for _, r := range s.Endpoints {
		if r.Conflicted && r.Host == s.Self {
			p.beaten[r.ID] = true
		}
	}
	return p.state(), p.zone()
}

// planner holds the indexes of one plan.
type planner struct {
	cfg     config.Config
	snap    discovery.Snapshot
	own     Own
	members map[discovery.HostID]discovery.Member
	records map[discovery.NetworkID][]discovery.Record
	beaten  map[discovery.EndpointID]bool // own endpoints whose address another host holds
}

// byNetwork slices the records, which are sorted by network, without copying.
func byNetwork(all []discovery.Record) map[discovery.NetworkID][]discovery.Record {
	out := map[discovery.NetworkID][]discovery.Record{}
	for start := 0; start < len(all); {
		end := start
		for end < len(all) && all[end].Network == all[start].Network {
			end++
		}
		out[all[start].Network] = all[start:end]
		start = end
	}
	return out
}

func (p planner) state() overlay.State {
	st := overlay.State{
		Cluster:  p.own.Cluster,
		VTEP:     p.cfg.Advertise,
		Port:     p.cfg.Ports.Tunnel,
		Members:  p.vteps(),
		Complete: p.snap.Complete,
		Networks: []overlay.Network{p.probeNetwork()},

		Questions: p.questions(),
	}
	for _, n := range p.snap.Networks {
		if p.own.Carried[n.ID] {
			st.Networks = append(st.Networks, p.network(n))
		}
	}
	return st
}

// vteps are the tunnel addresses from which packets are taken: dead members'
// too, since a member that only looks dead still sends.
func (p planner) vteps() []netip.Addr {
	var out []netip.Addr
	for _, m := range p.snap.Members {
		if m.Header.VTEP.IsValid() && m.Header.Flags&discovery.FlagGone == 0 {
			out = append(out, m.Header.VTEP)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func (p planner) network(n discovery.Network) overlay.Network {
	out := overlay.Network{
		VNI:        n.VNI,
		ID:         n.ID.String(),
		Name:       n.Name,
		MTU:        p.mtu(n),
		GatewayMAC: gatewayMAC(p.snap.Self, n.VNI),
		HostAccess: n.HostAccess() != discovery.HostAccessNone,
		Internal:   n.Internal,
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, overlay.Subnet{CIDR: s.CIDR, Gateway: s.Gateway})
	}
	for _, l := range p.own.Locals {
		switch {
		case l.Endpoint.Network != n.ID || p.beaten[l.Endpoint.ID]:
		case l.ofHost():
			out.HostAddrs = append(out.HostAddrs, l.Endpoint.Addrs()...)
		default:
			out.Ports = append(out.Ports, overlay.Port{
				Endpoint: l.Endpoint.ID.String(),
				MAC:      overlay.MAC(l.Endpoint.MAC),
				Addrs:    l.Endpoint.Addrs(),
			})
			for _, port := range l.Ports {
				port.Masquerade = l.NoDefault
				out.Published = append(out.Published, port)
			}
		}
	}
	slices.SortFunc(out.Published, overlay.Publish.Compare)
	out.Remotes = p.remotes(n.ID)
	return out
}

// remotes are the endpoints of other members, suspended ones included: what
// still works is never torn down because gossip lost sight of its owner.
func (p planner) remotes(n discovery.NetworkID) []overlay.Remote {
	records := p.records[n]
	out := make([]overlay.Remote, 0, len(records))
	for _, r := range records {
		if r.Host == p.snap.Self || r.Conflicted {
			continue
		}
		vtep := p.members[r.Host].Header.VTEP
		if !vtep.IsValid() || vtep.Is4() != p.cfg.Advertise.Is4() {
			continue
		}
		for _, a := range r.Addrs() {
			out = append(out, overlay.Remote{Addr: a, MAC: overlay.MAC(r.MAC), VTEP: vtep})
		}
	}
	slices.SortFunc(out, func(a, b overlay.Remote) int { return a.Addr.Compare(b.Addr) })
	return out
}

// mtu is the largest inner packet that every member carrying the network can
// send and receive: the smallest underlay among them, less the overhead.
func (p planner) mtu(n discovery.Network) int {
	if n.MTU != 0 {
		return n.MTU
	}
	smallest := p.members[p.snap.Self].Header.MTU
	for _, m := range p.snap.Members {
		if m.Header.MTU == 0 || m.Header.Flags&discovery.FlagGone != 0 {
			continue
		}
		if slices.ContainsFunc(m.Header.Networks, func(h discovery.HeaderNetwork) bool { return h.ID == n.ID }) {
			smallest = min(smallest, m.Header.MTU)
		}
	}
	return max(int(smallest)-overhead(p.cfg.Advertise), minMTU)
}

func overhead(vtep netip.Addr) int {
	if vtep.Is4() {
		return overheadIPv4
	}
	return overheadIPv6
}

func (p planner) zone() dns.Zone {
	z := dns.Zone{Domain: p.cfg.Domain, Complete: p.snap.Complete}
	for _, n := range p.snap.Networks {
		z.Networks = append(z.Networks, p.names(n))
	}
	slices.SortFunc(z.Networks, func(a, b dns.Network) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range p.snap.Members {
		if a := m.Gossip.Addr(); a.IsValid() && m.Status != discovery.StatusLeft && m.Status != discovery.StatusDead {
			z.Hosts = append(z.Hosts, dns.Host{Name: m.Name, Addr: a})
		}
	}
	slices.SortFunc(z.Hosts, func(a, b dns.Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr)) })
	z.Clients = append(p.clients(), p.bridged()...)
	z.Search = p.own.Asking.Search
	if p.own.Asking.Address {
		z.Address = overlay.DNSAddr
	}
	return z
}

func (p planner) names(n discovery.Network) dns.Network {
	out := dns.Network{
		Name:       n.Name,
		Internal:   n.Internal,
		HostAccess: n.HostAccess() != discovery.HostAccessNone,
	}
	if p.own.Carried[n.ID] {
		out.Device = overlay.GatewayName(n.VNI)
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, s.CIDR)
		if out.Device != "" {
			out.Gateways = append(out.Gateways, s.Gateway)
		}
	}
	if out.Device != "" && p.cfg.DNS.Intercept != config.InterceptOff {
		out.Redirected = append(slices.Clone(out.Gateways), p.hostAddrs(n.ID)...)
	}
	for _, r := range p.records[n.ID] {
		if r.Hidden || r.Conflicted || r.Name == "" {
			continue
		}
		out.Names = append(out.Names, dns.Name{
			Name:    r.Name,
			Aliases: r.Aliases,
			Addrs:   r.Addrs(),
			SRV:     services(r.SRV),
			Unready: r.Health == discovery.HealthStarting || r.Health == discovery.HealthUnhealthy,
		})
		if r.Runtime == runtimeHost {
			for _, a := range r.Addrs() {
				out.Hosts = append(out.Hosts, dns.Host{Name: r.Name, Addr: a})
			}
		}
	}
	return out
}

func services(in []discovery.SRV) []dns.SRV {
	var out []dns.SRV
	for _, s := range in {
		out = append(out, dns.SRV{Service: s.Service, Protocol: s.Protocol, Port: s.Port})
	}
	return out
}

// clients says who may ask and what they see: a sandbox on several networks
// sees the names of all of them, through whichever gateway it asks.
func (p planner) clients() []dns.Client {
	name := map[discovery.NetworkID]discovery.Network{}
	for _, n := range p.snap.Networks {
		name[n.ID] = n
	}
	together := map[string][]string{} // sandbox to network names
	for _, l := range p.own.Locals {
		if n, ok := name[l.Endpoint.Network]; ok && !l.ofHost() {
			together[l.sandboxKey()] = append(together[l.sandboxKey()], n.Name)
		}
	}
	var out []dns.Client
	for _, l := range p.own.Locals {
		n, ok := name[l.Endpoint.Network]
		if !ok || l.ofHost() {
			continue
		}
		networks := []string{n.Name}
		for _, other := range together[l.sandboxKey()] {
			if !slices.Contains(networks, other) {
				networks = append(networks, other)
			}
		}
		slices.Sort(networks[1:])
		for _, a := range l.Endpoint.Addrs() {
			out = append(out, dns.Client{Device: overlay.GatewayName(n.VNI), Addr: a, Networks: networks})
		}
	}
	slices.SortFunc(out, func(a, b dns.Client) int { return cmp.Or(cmp.Compare(a.Device, b.Device), a.Addr.Compare(b.Addr)) })
	return out
}

// gatewayMAC is this host's own on its gateway port: the gateway's address is
// the same on every host, so a shared hardware address would make the ports of
// two hosts one station. The first octet keeps it apart from endpointMAC's.
func gatewayMAC(self discovery.HostID, vni uint32) overlay.MAC {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(self[:], vni))
	mac := overlay.MAC{0x0a}
	copy(mac[1:], sum[:])
	return mac
}

// endpointMAC is derived from the address, so that an address which moves to
// another host keeps its hardware address and no neighbour's cache is wrong.
func endpointMAC(vni uint32, a netip.Addr) discovery.MAC {
	if a.Is4() {
		b := a.As4()
		return discovery.MAC{0x0e, byte(vni), b[0], b[1], b[2], b[3]}
	}
	b := a.As16()
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b[:], vni))
	return discovery.MAC{0x0e, byte(vni), sum[0], sum[1], sum[2], sum[3]}
}
