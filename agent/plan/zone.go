package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

func (p planner) zone() dns.Zone {
	z := dns.Zone{Domain: p.cfg.Domain, Complete: p.snap.Complete}
	for _, n := range p.snap.Networks {
		z.Networks = append(z.Networks, p.names(n))
	}
	slices.SortFunc(z.Networks, func(a, b dns.Network) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range p.members {
		if a := m.Gossip.Addr(); a.IsValid() && m.Status != discovery.StatusLeft && m.Status != discovery.StatusDead {
			z.Hosts = append(z.Hosts, dns.Host{Name: m.Name, Addr: a})
		}
	}
	slices.SortFunc(z.Hosts, func(a, b dns.Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr)) })
	z.Clients = append(p.clients(), p.otherClients()...)
	z.Search = p.own.Resolvers.Search
	if p.own.Resolvers.Address {
		z.Address = overlay.DNSAddr
	}
	return z
}

func (p planner) names(n discovery.Network) dns.Network {
	out := dns.Network{
		Name:       n.Name,
		Internal:   n.Internal,
		HostAccess: n.HostAccess() != discovery.HostAccessNone,
		Answers:    n.DNSAnswers(),
	}
	if p.own.Active[n.ID] {
		out.Device = overlay.GatewayName(n.VNI)
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, s.CIDR)
		if out.Device != "" {
			out.Gateways = append(out.Gateways, s.Gateway)
		}
	}
	if out.Device != "" && p.cfg.Intercept != InterceptNone {
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
			Here:    r.Host == p.snap.Self,
			Unready: r.Health == discovery.HealthStarting || r.Health == discovery.HealthUnhealthy,
		})
		if r.Runtime == discovery.RuntimeHost {
			for _, a := range r.Addrs() {
				out.Hosts = append(out.Hosts, dns.Host{Name: r.Name, Addr: a})
			}
		}
	}
	return out
}

// hostAddrs are this host's own addresses in a network.
func (p planner) hostAddrs(n discovery.NetworkID) (out []netip.Addr) {
	for _, l := range p.own.Locals {
		if l.Endpoint.Network == n && l.ofHost() && !p.conflicted[l.Endpoint.ID] {
			out = append(out, l.Endpoint.Addrs()...)
		}
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
			together[l.Sandbox] = append(together[l.Sandbox], n.Name)
		}
	}
	var out []dns.Client
	for _, l := range p.own.Locals {
		n, ok := name[l.Endpoint.Network]
		if !ok || l.ofHost() {
			continue
		}
		networks := []string{n.Name}
		for _, other := range together[l.Sandbox] {
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

// otherClients are the sandboxes that may ask from a network that is not ours:
// they see the same names from there.
func (p planner) otherClients() []dns.Client {
	var out []dns.Client
	for _, l := range p.own.Locals {
		for _, a := range p.own.Resolvers.OtherAddrs[l.Endpoint.ID] {
			if i := slices.IndexFunc(out, func(c dns.Client) bool { return c.Addr == a }); i < 0 {
				out = append(out, dns.Client{Addr: a, Networks: p.networksWith(l)})
			}
		}
	}
	slices.SortFunc(out, func(a, b dns.Client) int { return a.Addr.Compare(b.Addr) })
	return out
}

// networksWith are the names of all networks of an endpoint's sandbox, sorted.
func (p planner) networksWith(one Local) []string {
	var out []string
	for _, n := range p.snap.Networks {
		for _, l := range p.own.Locals {
			if l.Endpoint.Network == n.ID && l.Sandbox == one.Sandbox {
				out = append(out, n.Name)
				break
			}
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}
