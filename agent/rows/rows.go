// Package rows writes what this host knows as the answers of the API: members,
// networks and endpoints, each as a row that people and scripts read. It is pure.
package rows

import (
	"cmp"
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// Members lists the members. One that has left is not shown when its name is
// in use again, nor when gossip never reached it: its join failed, and only a
// goodbye went round.
func Members(members []discovery.Member) []api.Member {
	here := map[string]bool{}
	for _, m := range members {
		here[m.Name] = here[m.Name] || m.Status != discovery.StatusLeft
	}
	out := []api.Member{}
	for _, m := range members {
		if m.Status == discovery.StatusLeft && (here[m.Name] || !m.Gossip.IsValid()) {
			continue
		}
		row := api.Member{
			Name: m.Name, ID: m.ID.String(), Status: m.Status.String(),
			Version: m.Version, RTT: float64(m.RTT.Microseconds()) / 1000,
		}
		if a := cmp.Or(m.Gossip.Addr(), m.Header.VTEP); a.IsValid() {
			row.Address = a.String()
		}
		out = append(out, row)
	}
	return out
}

// Network shows a network with the endpoints of all hosts. vtep is this host's
// tunnel address.
func Network(n discovery.Network, v discovery.View, vtep netip.Addr) api.Network {
	out := api.Network{
		Name: n.Name, ID: n.ID.String(), Created: n.Created, Scope: "global", Driver: n.Driver,
		Internal: n.Internal, Labels: orEmpty(n.Labels), Options: orEmpty(n.Options),
		IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{}}, VNI: n.VNI, MTU: plan.MTU(n, v.Self, v.Members, vtep), State: string(n.State),
		Containers: map[string]api.Container{},
	}
	for _, sub := range n.Subnets {
		c := api.IPAMConfig{Subnet: sub.CIDR.String(), Gateway: sub.Gateway.String(), Addresses: sub.Room(), Blocks: blocks(n, sub, v.Members)}
		if sub.Range.IsValid() {
			c.IPRange = sub.Range.String()
		}
		for name, a := range sub.Aux {
			if c.AuxiliaryAddresses == nil {
				c.AuxiliaryAddresses = map[string]string{}
			}
			c.AuxiliaryAddresses[name] = a.String()
		}
		out.EnableIPv6 = out.EnableIPv6 || sub.CIDR.Addr().Is6()
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	for _, r := range v.Endpoints {
		if r.Network == n.ID {
			out.Containers[r.ID.String()] = container(n, r, v.MemberName(r.Host))
		}
	}
	return out
}

// blocks are the parts of a subnet that the members hold, by their names.
func blocks(n discovery.Network, sub discovery.Subnet, members []discovery.Member) map[string][]string {
	out := map[string][]string{}
	for _, m := range members {
		for _, h := range m.Header.Networks {
			if h.ID != n.ID {
				continue
			}
			for _, b := range h.Blocks {
				if sub.CIDR.Contains(b.Addr()) {
					out[m.Name] = append(out[m.Name], b.String())
				}
			}
		}
	}
	return out
}

func container(n discovery.Network, r discovery.Record, host string) api.Container {
	c := api.Container{Name: r.Name, EndpointID: r.ID.String(), MacAddress: r.MAC.String(), Host: host}
	for _, a := range r.Addrs() {
		if a.Is4() {
			c.IPv4Address = withLength(n, a)
		} else {
			c.IPv6Address = withLength(n, a)
		}
	}
	return c
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// withLength writes an address with the length of its subnet, as Docker does.
func withLength(n discovery.Network, a netip.Addr) string {
	sub, ok := n.Covering(a)
	if !ok {
		return a.String()
	}
	return netip.PrefixFrom(a, sub.CIDR.Bits()).String()
}
