package networks

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
)

// Create makes a network in the pool. When it returns this host knows the network:
// an attach that follows finds it.
func (r *Registry) Create(ctx context.Context, spec pool.NetworkSpec) (discovery.Network, error) {
	r.mu.Lock()
	for _, n := range r.all {
		spec.Carried = append(spec.Carried, pool.Carried{Network: n, Host: spec.By})
	}
	for _, c := range r.clashes {
		spec.Refused = append(spec.Refused, c.ID)
	}
	spec.Carried = slices.DeleteFunc(spec.Carried, func(c pool.Carried) bool { _, gone := r.deleted[c.ID]; return gone })
	r.mu.Unlock()
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
	err := strict.NetworkName(strings.ToLower(name))
	if err == nil {
		return nil
	}
	such := strings.Trim(api.Label(name), "_-")
	if strict.NetworkName(such) != nil {
		such = "backend"
	}
	return api.Errorf(api.KindMisuse, "%v", err).WithHint("agentctl network create NAME # such as %s", such)
}

// check turns a request into what the pool creates, or says what is wrong with it;
// its name is checked by checkName.
func (m *Maker) check(req api.NetworkCreateRequest) (pool.NetworkSpec, []string, error) {
	members := m.Members()
	spec := pool.NetworkSpec{
		Name: strings.ToLower(req.Name), Internal: req.Internal, Driver: cmp.Or(req.Driver, "weft"),
		Labels: req.Labels, Options: map[string]string{}, By: m.Self, Avoid: avoidEverywhere(members), Carried: carriedBy(members),
		Subnets: req.Subnets, Gateways: req.Gateways, Ranges: req.IPRanges, Aux: req.AuxAddresses,
	}
	if i := slices.IndexFunc(req.Subnets, func(s string) bool { return strings.Contains(s, ":") }); i >= 0 {
		return spec, nil, api.Errorf(api.KindMisuse, "--subnet %s: this release has IPv4 subnets only", req.Subnets[i])
	}
	if spec.Driver != "weft" {
		return spec, nil, api.Errorf(api.KindMisuse, "driver %q: this release has only weft", req.Driver)
	}
	if err := strict.NetworkOptions(req.Options); err != nil {
		return spec, nil, api.Errorf(api.KindMisuse, "%v", err)
	}
	maps.Copy(spec.Options, req.Options)
	spec.MTU, _ = strconv.Atoi(req.Options["mtu"]) // 0: there is none
	return spec, slices.Concat(publicName(spec.Name), publicSubnets(req.Subnets), tooLarge(spec.MTU, members, m.VTEP)), nil
}

// specialNames are top level domains that no registry has, and that programs or
// companies give a meaning (RFC 6761, RFC 6762, RFC 8375, RFC 9476, ICANN's internal).
var specialNames = []string{"local", "localhost", "localdomain", "internal", "intranet", "private", "corp", "home", "lan",
	"mail", "test", "example", "invalid", "onion", "alt"}

// publicName warns of a name that is a top level domain elsewhere.
func publicName(name string) []string {
	_, public := publicsuffix.PublicSuffix(name)
	if !public && !slices.Contains(specialNames, name) {
		return nil
	}
	return []string{fmt.Sprintf("%s is a top level domain elsewhere too: on this network an endpoint web hides web.%s, and nothing else", name, name)}
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

// carriedBy are the networks that members announce, by their blocks.
func carriedBy(members []discovery.Member) (out []pool.Carried) {
	for _, m := range members {
		for _, h := range m.Header.Networks {
			c := pool.Carried{Network: discovery.Network{ID: h.ID, VNI: h.VNI}, Host: m.Name}
			for _, b := range h.Blocks {
				c.Subnets = append(c.Subnets, discovery.Subnet{CIDR: b})
			}
			out = append(out, c)
		}
	}
	return out
}
