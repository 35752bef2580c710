package netavark

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// own options are the plugin's; all others are given to the agent as -o.
var own = []string{"socket", "network"}

// text is a key that is a string; empty when it is absent or anything else.
func (n network) text(key string) string {
	var s string
	_ = json.Unmarshal(n[key], &s)
	return s
}

func (n network) flag(key string) bool {
	var b bool
	_ = json.Unmarshal(n[key], &b)
	return b
}

func (n network) option(name string) string { return n.options()[name] }

func (n network) options() map[string]string {
	var o map[string]string
	_ = json.Unmarshal(n["options"], &o)
	return o
}

// overlay is the name of our network: podman's, unless -o network= says
// otherwise.
func (n network) overlay() string {
	if name := n.option("network"); name != "" {
		return name
	}
	return n.text("name")
}

func (n network) set(key string, v any) {
	b, _ := json.Marshal(v)
	n[key] = b
}

// create makes podman's network stand for ours of the same name, which it makes
// when there is none.
func create(ctx context.Context, agent Agent, n network) (network, error) {
	name := n.overlay()
	if name == "" {
		return nil, fmt.Errorf("create: the network has no name")
	}
	subnets, err := n.subnets()
	if err != nil {
		return nil, err
	}
	have, err := agent.Network(ctx, name)
	switch {
	case err == nil:
		err = n.fits(have, subnets)
	case api.KindOf(err) == api.KindNotFound:
		have, err = n.make(ctx, agent, subnets)
	}
	if err != nil {
		return nil, err
	}
	shown := []subnet{}
	for _, c := range have.IPAM.Config {
		shown = append(shown, subnet{Subnet: c.Subnet, Gateway: c.Gateway})
	}
	n.set("subnets", shown)
	n.set("internal", have.Internal)
	n.set("ipv6_enabled", have.EnableIPv6)
	// Ours answers, and not aardvark, which knows the containers of one host.
	n.set("dns_enabled", false)
	return n, n.ownAddresses()
}

// ownAddresses tells podman to hand out no addresses of its own: it would give
// every one again on each host.
func (n network) ownAddresses() error {
	ipam := map[string]json.RawMessage{}
	if raw := n["ipam_options"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &ipam); err != nil {
			return fmt.Errorf("create: ipam_options: %w", err)
		}
	}
	if ipam == nil {
		ipam = map[string]json.RawMessage{}
	}
	ipam["driver"] = json.RawMessage(`"none"`)
	n.set("ipam_options", ipam)
	return nil
}

// subnets are those that the user asks for.
func (n network) subnets() ([]subnet, error) {
	var list []subnet
	if raw := n["subnets"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("create: subnets: %w", err)
		}
	}
	for _, s := range list {
		if len(s.Range) > 0 && !bytes.Equal(s.Range, []byte("null")) {
			return nil, api.Errorf(api.KindMisuse, "create %s: podman's --ip-range is not taken over", n.text("name")).
				WithHint("agentctl network create %s --ip-range CIDR, then podman network create without it", n.overlay())
		}
	}
	return list, nil
}

// fits refuses to stand for a network that has other subnets than asked for.
func (n network) fits(have api.Network, want []subnet) error {
	for _, w := range want {
		if !slices.ContainsFunc(have.IPAM.Config, func(c api.IPAMConfig) bool {
			return c.Subnet == w.Subnet && (w.Gateway == "" || c.Gateway == w.Gateway)
		}) {
			var there []string
			for _, c := range have.IPAM.Config {
				there = append(there, c.Subnet+" gateway "+c.Gateway)
			}
			return api.Errorf(api.KindConflict, "create %s: the cluster's network %s has %s", n.text("name"), have.Name, strings.Join(there, ", ")).
				WithHint("podman network create -d weft %s, without --subnet and --gateway", n.text("name"))
		}
	}
	return nil
}

// make creates the cluster's network as podman's user described it.
func (n network) make(ctx context.Context, agent Agent, subnets []subnet) (api.Network, error) {
	r := api.NetworkCreateRequest{Name: n.overlay(), Internal: n.flag("internal")}
	_ = json.Unmarshal(n["labels"], &r.Labels)
	for _, s := range subnets {
		r.Subnets = append(r.Subnets, s.Subnet)
		if s.Gateway != "" {
			r.Gateways = append(r.Gateways, s.Gateway)
		}
	}
	r.Options = maps.Clone(n.options())
	for _, o := range own {
		delete(r.Options, o)
	}
	made, err := agent.NetworkCreate(ctx, r)
	return made.Network, err
}
