package plan

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

func (p planner) state() overlay.State {
	st := overlay.State{
		Cluster:  p.own.Cluster,
		VTEP:     p.cfg.VTEP,
		Port:     p.cfg.TunnelPort,
		Members:  p.vteps(),
		Complete: p.snap.Complete,
		Networks: []overlay.Network{p.probeNetwork()},

		MemberAddrs: p.memberAddrs(),
		AgentPorts:  []uint16{p.cfg.GossipPort},
		Questions:   p.questions(),
	}
	for _, n := range p.snap.Networks {
		switch {
		case p.own.Active[n.ID]:
			st.Networks = append(st.Networks, p.network(n))
		case n.State == discovery.NetworkUp:
			st.Elsewhere = append(st.Elsewhere, p.elsewhere(n)...)
		}
	}
	slices.SortFunc(st.Elsewhere, netip.Prefix.Compare)
	st.Elsewhere = slices.Compact(st.Elsewhere)
	return st
}

// believed are the members, as far as what they say is believed.
func (p planner) believed() []discovery.Member {
	return slices.DeleteFunc(slices.Clone(p.snap.Members), func(m discovery.Member) bool { return p.distrust[m.ID] })
}

// elsewhere are the subnets of a network that is not active here, but for one in which
// the members or the resolvers are: what cuts this host off from them is a mistake.
func (p planner) elsewhere(n discovery.Network) (out []netip.Prefix) {
	needed := slices.Concat(p.vteps(), p.own.Resolvers.Resolvers)
	for _, s := range n.Subnets {
		if !slices.ContainsFunc(needed, s.CIDR.Contains) {
			out = append(out, s.CIDR.Masked())
		}
	}
	return out
}

// vteps are the tunnel addresses from which packets are taken: dead members'
// too, since a member that only looks dead still sends.
func (p planner) vteps() []netip.Addr {
	var out []netip.Addr
	for _, m := range p.members {
		if m.Header.VTEP.IsValid() && m.Header.Flags&discovery.FlagGone == 0 {
			out = append(out, m.Header.VTEP)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// memberAddrs are all addresses of the other members that are believed. What is closed
// because of a lie is open to nobody, so a lie gives nothing.
func (p planner) memberAddrs() (out []netip.Addr) {
	for id, m := range p.members {
		if id == p.snap.Self || m.Header.Flags&discovery.FlagGone != 0 {
			continue
		}
		if m.Header.VTEP.IsValid() {
			out = append(out, m.Header.VTEP)
		}
		out = append(out, m.Header.Addrs...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// questions are those that this host answers although they are asked elsewhere.
func (p planner) questions() overlay.Questions {
	q := overlay.Questions{Address: p.own.Resolvers.Address}
	switch p.cfg.Intercept {
	case InterceptAll:
		q.All = true
	case InterceptResolvers:
		q.Redirected = p.own.Resolvers.Resolvers
	}
	return q
}

func (p planner) network(n discovery.Network) overlay.Network {
	out := overlay.Network{
		VNI:        n.VNI,
		ID:         n.ID.String(),
		Name:       n.Name,
		MTU:        MTU(n, p.snap.Self, p.believed(), p.cfg.VTEP),
		GatewayMAC: GatewayMAC(p.snap.Self, n.VNI),
		HostAccess: n.HostAccess() != discovery.HostAccessNone,
		Internal:   n.Internal,
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, overlay.Subnet{CIDR: s.CIDR, Gateway: s.Gateway})
	}
	for _, l := range p.own.Locals {
		switch {
		case l.Endpoint.Network != n.ID || p.conflicted[l.Endpoint.ID]:
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
	for i := range records {
		r := &records[i]
		if r.Host == p.snap.Self || r.Conflicted {
			continue
		}
		vtep := p.members[r.Host].Header.VTEP
		if !vtep.IsValid() || vtep.Is4() != p.cfg.VTEP.Is4() {
			continue
		}
		for _, a := range [...]netip.Addr{r.IPv4, r.IPv6} {
			if a.IsValid() {
				out = append(out, overlay.Remote{Addr: a, MAC: overlay.MAC(r.MAC), VTEP: vtep})
			}
		}
	}
	slices.SortFunc(out, func(a, b overlay.Remote) int { return a.Addr.Compare(b.Addr) })
	return out
}

// probeNetwork is the members' own network as the kernel side wants it. Its MTU is the
// device's, so that it shows when a path carries more again.
func (p planner) probeNetwork() overlay.Network {
	underlay := int(p.members[p.snap.Self].Header.Carries())
	n := overlay.Network{VNI: discovery.ProbeVNI, Name: "probe", Probe: true, GatewayMAC: ProbeMAC(p.snap.Self),
		MTU: max(underlay-Overhead(p.cfg.VTEP), strict.MinMTU)}
	for _, m := range p.members {
		vtep := m.Header.VTEP
		if m.ID != p.snap.Self && vtep.IsValid() && vtep.Is4() == p.cfg.VTEP.Is4() && m.Header.Flags&discovery.FlagGone == 0 {
			n.Remotes = append(n.Remotes, overlay.Remote{MAC: ProbeMAC(m.ID), VTEP: vtep})
		}
	}
	slices.SortFunc(n.Remotes, func(a, b overlay.Remote) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	return n
}
