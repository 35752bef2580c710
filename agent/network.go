package agent

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/rows"
	"github.com/weft-net/weft/discovery"
)

// NetworkCreate implements api.Service. It returns when this host knows the
// network: an attach that follows finds it.
func (a service) NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.NetworkCreateResult{}, err
	}
	what := "network create " + r.Name
	n, warnings, err := m.maker().Create(ctx, r)
	if err != nil {
		return api.NetworkCreateResult{}, m.explain(what, err)
	}
	m.setConflists()
	return api.NetworkCreateResult{Network: rows.Network(n, m.directory.View(), m.cfg.Advertise), Warnings: warnings}, nil
}

// maker makes networks, for users of agentctl and of Docker.
func (m *member) maker() *networks.Maker {
	return &networks.Maker{Registry: m.networks, Members: func() []discovery.Member { return m.directory.View().Members },
		Pool: func() netip.Prefix { return m.host.Meta().Pool }, Self: m.host.Host().Name, VTEP: m.cfg.Advertise, Events: m.events}
}

// NetworkRemove implements api.Service: refused while an endpoint is on the
// network, alive or suspended, unless forced.
func (a service) NetworkRemove(ctx context.Context, nameOrID string, force bool) error {
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
func (a service) NetworkPrune(ctx context.Context, r api.PruneRequest) (api.PruneResult, error) {
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
	var unused []discovery.Network
	for _, n := range m.networks.ByName() {
		if n.State != discovery.NetworkDeleting && !kept(n) && len(m.directory.View().Using(n.ID)) == 0 {
			unused = append(unused, n)
		}
	}
	return a.removeAll(ctx, m, unused)
}

// removedAtOnce is how many networks are pruned at a time. Each waits for the other
// hosts, which take most of a second to give back what they hold of it.
const removedAtOnce = 8

// removeAll removes networks that were unused a moment ago.
func (a service) removeAll(ctx context.Context, m *member, all []discovery.Network) (api.PruneResult, error) {
	errs := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(removedAtOnce)
	for i, n := range all {
		group.Go(func() error { errs[i] = a.NetworkRemove(ctx, n.Name, false); return nil })
	}
	_ = group.Wait()
	out := api.PruneResult{Deleted: []string{}}
	for i, err := range errs {
		if err == nil {
			out.Deleted = append(out.Deleted, all[i].Name)
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
func (a service) Networks(context.Context) ([]api.Network, error) {
	m, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	out := []api.Network{}
	for _, n := range m.networks.ByName() {
		out = append(out, rows.Network(n, m.directory.View(), m.cfg.Advertise))
	}
	return out, nil
}

// Network implements api.Service.
func (a service) Network(ctx context.Context, nameOrID string) (api.Network, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Network{}, err
	}
	n, err := m.networks.Find(ctx, nameOrID)
	if err != nil {
		return api.Network{}, err
	}
	return rows.Network(n, m.directory.View(), m.cfg.Advertise), nil
}
