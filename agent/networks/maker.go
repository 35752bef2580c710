package networks

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// Maker makes networks for those who ask this host: users of agentctl and of
// engines.
type Maker struct {
	Registry *Registry
	Members  func() []discovery.Member
	Pool     func() netip.Prefix // that automatic subnets come from
	Self     string              // this host's name
	VTEP     netip.Addr
	Events   event.Sink
}

// ErrDiffers: there is a network of that name, made otherwise.
var ErrDiffers = errors.New("a network of that name was made otherwise")

// Create makes a network; warnings are what may not be meant.
func (m *Maker) Create(ctx context.Context, r api.NetworkCreateRequest) (n discovery.Network, warnings []string, err error) {
	if err := checkName(r.Name); err != nil {
		return n, nil, err
	}
	spec, warnings, err := m.check(r)
	if err != nil {
		return n, nil, err
	}
	n, err = m.Registry.Create(ctx, spec)
	if err == nil {
		e := event.Event{Kind: event.NetworkCreated, Subject: n.Name, Network: n.Name, By: api.Caller(ctx), Text: "network " + n.Name + " created",
			Detail: map[string]any{"id": n.ID.String(), "vni": n.VNI}}
		if len(n.Subnets) > 0 {
			e.Detail["subnet"] = n.Subnets[0].CIDR.String()
			e.Text += " with subnet " + n.Subnets[0].CIDR.String()
		}
		m.Events.Emit(e)
	}
	return n, warnings, err
}

// Find is Create for one that another host may have made as well: that is the same
// network, unless it is an ErrDiffers.
func (m *Maker) Find(ctx context.Context, r api.NetworkCreateRequest) (discovery.Network, error) {
	n, _, err := m.Create(ctx, r)
	if !errors.Is(err, pool.ErrExists) {
		return n, err
	}
	if err := m.Registry.Refresh(ctx); err != nil {
		return n, err
	}
	for _, n := range m.Registry.ByName() {
		switch {
		case n.Name != strings.ToLower(r.Name):
		case like(n, r):
			return n, nil
		default:
			return n, ErrDiffers
		}
	}
	return n, err // it was deleted meanwhile
}

// like reports whether a network is as it was asked for.
func like(n discovery.Network, r api.NetworkCreateRequest) bool {
	if n.Internal != r.Internal || n.State == discovery.NetworkDeleting {
		return false
	}
	for k, v := range r.Options {
		if n.Options[k] != v {
			return false
		}
	}
	for _, s := range r.Subnets {
		if !slices.ContainsFunc(n.Subnets, func(have discovery.Subnet) bool { return have.CIDR.String() == s }) {
			return false
		}
	}
	return true
}

// Lay returns the IPv4 subnet that a network would have which has no name yet, as
// far as this host knows. An automatic one overlaps none of taken. While the store is
// away no network can be made.
func (m *Maker) Lay(r api.NetworkCreateRequest, taken []netip.Prefix) (discovery.Subnet, error) {
	spec, _, err := m.check(r)
	if err != nil {
		return discovery.Subnet{}, err
	}
	if err := m.Registry.cfg.Store.Healthy(); err != nil {
		return discovery.Subnet{}, err
	}
	all, _ := m.Registry.ByVNI()
	for _, p := range taken {
		spec.Avoid = append(spec.Avoid, pool.Avoid{Prefix: p, Host: m.Self})
	}
	subnets, err := spec.Lay(m.Pool(), all)
	if err != nil {
		return discovery.Subnet{}, err
	}
	return subnets[0], nil
}
