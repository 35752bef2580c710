package agent

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// NetworkCreate implements api.Service. It returns when this host knows the
// network: an attach that follows finds it.
func (a *Agent) NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.NetworkCreateResult{}, err
	}
	what := "network create " + r.Name
	spec, warnings, err := networks.Check(r, m.directory.View().Members, m.host.Host().Name, m.cfg.Advertise)
	if err != nil {
		return api.NetworkCreateResult{}, m.explain(what, err)
	}
	n, err := m.networks.Create(ctx, spec)
	if err != nil {
		return api.NetworkCreateResult{}, m.explain(what, err)
	}
	m.setConflists()
	return api.NetworkCreateResult{Network: m.inspect(n), Warnings: warnings}, nil
}

// NetworkRemove implements api.Service: refused while an endpoint is on the
// network, alive or suspended, unless forced.
func (a *Agent) NetworkRemove(ctx context.Context, nameOrID string, force bool) error {
	m, err := a.requireMember()
	if err != nil {
		return err
	}
	n, err := m.networks.Find(ctx, nameOrID)
	if err != nil {
		return err
	}
	return m.explain("network rm "+n.Name, m.deletions.Remove(ctx, n, force))
}

// NetworkPrune implements api.Service. An endpoint of a dead host keeps its
// network: the host may come back.
func (a *Agent) NetworkPrune(ctx context.Context, r api.PruneRequest) (api.PruneResult, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.PruneResult{}, err
	}
	kept, err := networks.Kept(r, time.Now())
	if err != nil {
		return api.PruneResult{}, m.explain("network prune", err)
	}
	if !m.snapshot().Complete {
		return api.PruneResult{}, api.Errorf(api.KindFailed, "network prune: not every member was read yet: one may use what looks unused").
			WithHint("agentctl status --wait")
	}
	out := api.PruneResult{Deleted: []string{}}
	for _, n := range m.networks.ByName() {
		if n.State == discovery.NetworkDeleting || kept(n) || len(m.directory.View().Using(n.ID)) > 0 {
			continue
		}
		err := a.NetworkRemove(ctx, n.Name, false)
		if err == nil {
			out.Deleted = append(out.Deleted, n.Name)
			continue
		}
		e, ok := errors.AsType[*api.Error](m.explain("network prune", err))
		if !ok || ctx.Err() != nil {
			return out, err
		}
		out.Failures = append(out.Failures, *e)
	}
	return out, nil
}

// Networks implements api.Service.
func (a *Agent) Networks(context.Context) ([]api.Network, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	out := []api.Network{}
	for _, n := range m.networks.ByName() {
		out = append(out, m.inspect(n))
	}
	return out, nil
}

// Network implements api.Service.
func (a *Agent) Network(ctx context.Context, nameOrID string) (api.Network, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Network{}, err
	}
	n, err := m.networks.Find(ctx, nameOrID)
	if err != nil {
		return api.Network{}, err
	}
	return m.inspect(n), nil
}

// inspect shows a network with the endpoints of all hosts.
func (m *member) inspect(n discovery.Network) api.Network {
	v := m.directory.View()
	out := api.Network{
		Name: n.Name, ID: n.ID.String(), Created: n.Created, Scope: "global", Driver: n.Driver,
		Internal: n.Internal, Labels: orEmpty(n.Labels), Options: orEmpty(n.Options),
		IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{}}, VNI: n.VNI, MTU: plan.MTU(n, v.Self, v.Members, m.cfg.Advertise), State: string(n.State),
		Containers: map[string]api.Container{},
	}
	for _, sub := range n.Subnets {
		c := api.IPAMConfig{Subnet: sub.CIDR.String(), Gateway: sub.Gateway.String()}
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
		if r.Network != n.ID {
			continue
		}
		c := api.Container{Name: r.Name, EndpointID: r.ID.String(), MacAddress: r.MAC.String(), Host: v.MemberName(r.Host)}
		for _, a := range r.Addrs() {
			if a.Is4() {
				c.IPv4Address = withLength(n, a)
			} else {
				c.IPv6Address = withLength(n, a)
			}
		}
		out.Containers[r.ID.String()] = c
	}
	return out
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
