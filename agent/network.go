package agent

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// reservedNames would hide something that Docker or our names give a meaning.
var reservedNames = []string{"host", "none", "bridge", "default", "podman", "_all"}

// NetworkCreate implements api.Service. It returns when this host knows the
// network: an attach that follows finds it.
func (a *Agent) NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.NetworkCreateResult{}, err
	}
	what := "network create " + r.Name
	spec, warnings, err := s.checkNetwork(r)
	if err != nil {
		return api.NetworkCreateResult{}, s.explain(what, err)
	}
	n, err := s.pool.CreateNetwork(ctx, spec)
	if err != nil {
		return api.NetworkCreateResult{}, s.explain(what, err)
	}
	s.know(n)
	s.setConflists()
	s.log.Info("network created", "network", n.Name, "vni", n.VNI, "subnet", subnets(n))
	return api.NetworkCreateResult{Network: s.inspect(n), Warnings: warnings}, nil
}

// checkNetwork turns a request into what the pool creates, or says what is
// wrong with it.
func (s *session) checkNetwork(r api.NetworkCreateRequest) (pool.NetworkSpec, []string, error) {
	spec := pool.NetworkSpec{
		Name: strings.ToLower(r.Name), Internal: r.Internal, Driver: cmp.Or(r.Driver, "weft"),
		Labels: r.Labels, Options: map[string]string{}, By: s.host.Name, Avoid: s.avoidEverywhere(),
		Subnets: r.Subnets, Gateways: r.Gateways, Ranges: r.IPRanges, Aux: r.AuxAddresses,
	}
	if i := slices.IndexFunc(r.Subnets, func(s string) bool { return strings.Contains(s, ":") }); i >= 0 {
		return spec, nil, api.Errorf(api.KindMisuse, "--subnet %s: this release has IPv4 subnets only", r.Subnets[i])
	}
	if !api.ValidLabel(r.Name) {
		return spec, nil, api.Errorf(api.KindMisuse, "%q is no DNS label: letters, digits, - and _, at most 63", r.Name)
	}
	if slices.Contains(reservedNames, spec.Name) {
		return spec, nil, api.Errorf(api.KindMisuse, "%q has a meaning of its own, choose another name", r.Name)
	}
	if spec.Driver != "weft" {
		return spec, nil, api.Errorf(api.KindMisuse, "driver %q: this release has only weft", r.Driver)
	}
	if err := readOptions(r.Options, &spec); err != nil {
		return spec, nil, err
	}
	return spec, append(publicSubnets(r.Subnets), s.tooLarge(spec.MTU)...), nil
}

// readOptions reads the driver options that this release has.
func readOptions(options map[string]string, spec *pool.NetworkSpec) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		switch k {
		case "mtu":
			mtu, err := strconv.Atoi(v)
			if err != nil || mtu < minMTU || mtu > 65535-overheadIPv6 {
				return api.Errorf(api.KindMisuse, "-o mtu=%s: give the inner MTU in bytes, %d to %d", v, minMTU, 65535-overheadIPv6)
			}
			spec.MTU = mtu
		case "host_access":
			if !slices.Contains([]string{"none", "local", "full"}, v) {
				return api.Errorf(api.KindMisuse, "-o host_access=%s: give none, local or full", v)
			}
		default:
			return api.Errorf(api.KindMisuse, "-o %s: unknown option; this release has mtu and host_access", k)
		}
		spec.Options[k] = v
	}
	return nil
}

// avoidEverywhere is what no automatic subnet may overlap, with the host it
// comes from.
func (s *session) avoidEverywhere() []pool.Avoid {
	var out []pool.Avoid
	for _, m := range s.directory.View().Members {
		for _, p := range m.Header.Avoid {
			out = append(out, pool.Avoid{Prefix: p, Host: m.Name})
		}
	}
	return out
}

// know takes a network that this host just made without waiting for the watch,
// which may be in its pause after the store was away.
func (s *session) know(n discovery.Network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.networks, func(m discovery.Network) bool { return m.ID == n.ID }) {
		return
	}
	s.networks = append(slices.Clone(s.networks), n)
	discovery.SortNetworks(s.networks)
}

// readNetworks takes the networks that the pool has, so that a host that just
// became a member knows them before its watch has begun.
func (s *session) readNetworks(ctx context.Context) error {
	all, err := s.pool.Networks(ctx)
	for _, n := range all {
		s.know(n)
	}
	return err
}

// Networks implements api.Service.
func (a *Agent) Networks(context.Context) ([]api.Network, error) {
	s, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	out := []api.Network{}
	for _, n := range s.networkList() {
		out = append(out, s.inspect(n))
	}
	return out, nil
}

// Network implements api.Service.
func (a *Agent) Network(ctx context.Context, nameOrID string) (api.Network, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.Network{}, err
	}
	n, ok := s.findNetwork(ctx, nameOrID)
	if !ok {
		return api.Network{}, noNetwork(nameOrID)
	}
	return s.inspect(n), nil
}

// inspect shows a network with the endpoints of all hosts.
func (s *session) inspect(n discovery.Network) api.Network {
	out := api.Network{
		Name: n.Name, ID: n.ID.String(), Created: n.Created, Scope: "global", Driver: n.Driver,
		Internal: n.Internal, Labels: orEmpty(n.Labels), Options: orEmpty(n.Options),
		IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{}}, VNI: n.VNI, MTU: s.mtu(n), State: string(n.State),
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
	v := s.directory.View()
	for _, r := range v.Endpoints {
		if r.Network != n.ID {
			continue
		}
		c := api.Container{Name: r.Name, EndpointID: r.ID.String(), MacAddress: r.MAC.String(), Host: memberName(v, r.Host)}
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

func memberName(v discovery.View, id discovery.HostID) string {
	return cmp.Or(memberOf(v, id).Name, id.String())
}

// memberOf is the member of that id, a zero one when it is not known.
func memberOf(v discovery.View, id discovery.HostID) discovery.Member {
	i := slices.IndexFunc(v.Members, func(m discovery.Member) bool { return m.ID == id })
	if i < 0 {
		return discovery.Member{}
	}
	return v.Members[i]
}
