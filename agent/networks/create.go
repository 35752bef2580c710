package networks

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// reservedNames would hide something that Docker or our names give a meaning.
var reservedNames = []string{"host", "none", "bridge", "default", "podman", "_all"}

// Create makes a network in the pool. When it returns this host knows the network:
// an attach that follows finds it.
func (r *Registry) Create(ctx context.Context, spec pool.NetworkSpec) (discovery.Network, error) {
	n, err := r.cfg.Store.CreateNetwork(ctx, spec)
	if err != nil {
		return discovery.Network{}, err
	}
	r.add(n)
	r.cfg.Log.Info("network created", "network", n.Name, "vni", n.VNI, "subnet", n.CIDRs())
	return n, nil
}

// checkName refuses what cannot stand in DNS, or has a meaning already.
func checkName(name string) error {
	switch {
	case !api.ValidLabel(name) || name[0] == '_':
		return api.Errorf(api.KindMisuse, "%q is no name for a network: letters, digits, - and _, a letter or digit first, at most 63", name).
			WithHint("agentctl network create NAME # such as %s", cmp.Or(strings.Trim(api.Label(name), "_-"), "backend"))
	case slices.Contains(reservedNames, strings.ToLower(name)):
		return api.Errorf(api.KindMisuse, "%q has a meaning of its own", name).WithHint("agentctl network create NAME # another one")
	}
	return nil
}

// check turns a request into what the pool creates, or says what is wrong with it;
// its name is checked by checkName.
func (m *Maker) check(req api.NetworkCreateRequest) (pool.NetworkSpec, []string, error) {
	members := m.Members()
	spec := pool.NetworkSpec{
		Name: strings.ToLower(req.Name), Internal: req.Internal, Driver: cmp.Or(req.Driver, "weft"),
		Labels: req.Labels, Options: map[string]string{}, By: m.Self, Avoid: avoidEverywhere(members),
		Subnets: req.Subnets, Gateways: req.Gateways, Ranges: req.IPRanges, Aux: req.AuxAddresses,
	}
	if i := slices.IndexFunc(req.Subnets, func(s string) bool { return strings.Contains(s, ":") }); i >= 0 {
		return spec, nil, api.Errorf(api.KindMisuse, "--subnet %s: this release has IPv4 subnets only", req.Subnets[i])
	}
	if spec.Driver != "weft" {
		return spec, nil, api.Errorf(api.KindMisuse, "driver %q: this release has only weft", req.Driver)
	}
	if err := readOptions(req.Options, &spec); err != nil {
		return spec, nil, err
	}
	return spec, append(publicSubnets(req.Subnets), tooLarge(spec.MTU, members, m.VTEP)...), nil
}

// readOptions reads the driver options that this release has.
func readOptions(options map[string]string, spec *pool.NetworkSpec) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		switch k {
		case "mtu":
			mtu, err := strconv.Atoi(v)
			if err != nil || mtu < plan.MinMTU || mtu > plan.MaxMTU {
				return api.Errorf(api.KindMisuse, "-o mtu=%s: give the inner MTU in bytes, %d to %d", v, plan.MinMTU, plan.MaxMTU)
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
func avoidEverywhere(members []discovery.Member) []pool.Avoid {
	var out []pool.Avoid
	for _, m := range members {
		for _, p := range m.Header.Avoid {
			out = append(out, pool.Avoid{Prefix: p, Host: m.Name})
		}
	}
	return out
}
