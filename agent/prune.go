package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// NetworkPrune implements api.Service. An endpoint of a dead host keeps its
// network: the host may come back.
func (a *Agent) NetworkPrune(ctx context.Context, r api.PruneRequest) (api.PruneResult, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.PruneResult{}, err
	}
	keep, err := keptBy(r, time.Now())
	if err != nil {
		return api.PruneResult{}, s.explain("network prune", err)
	}
	if !s.snapshot().Complete {
		return api.PruneResult{}, api.Errorf(api.KindFailed, "network prune: not every member was read yet: one may use what looks unused").
			WithHint("agentctl status --wait")
	}
	out := api.PruneResult{Deleted: []string{}}
	for _, n := range s.networkList() {
		if n.State == discovery.NetworkDeleting || keep(n) || len(endpointsOn(s.directory.View(), n.ID)) > 0 {
			continue
		}
		err := a.NetworkRemove(ctx, n.Name, false)
		if err == nil {
			out.Deleted = append(out.Deleted, n.Name)
			continue
		}
		e, ok := errors.AsType[*api.Error](s.explain("network prune", err))
		if !ok || ctx.Err() != nil {
			return out, err
		}
		out.Failures = append(out.Failures, *e)
	}
	return out, nil
}

// keptBy is the condition under which the request leaves a network alone.
func keptBy(r api.PruneRequest, now time.Time) (func(discovery.Network) bool, error) {
	var before time.Time // zero: whenever
	if r.Until != "" {
		var err error
		if before, err = api.ParseUntil(r.Until, now); err != nil {
			return nil, err
		}
	}
	return func(n discovery.Network) bool {
		if !before.IsZero() && !n.Created.Before(before) {
			return true
		}
		for _, l := range r.Labels {
			if !hasLabel(n.Labels, l) {
				return true
			}
		}
		for _, l := range r.NotLabels {
			if hasLabel(n.Labels, l) {
				return true
			}
		}
		return false
	}, nil
}

// hasLabel reports whether labels hold KEY, or KEY=VALUE.
func hasLabel(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}
