package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// NetworkRemove implements api.Service: refused while an endpoint is on the
// network, alive or suspended, unless forced.
func (a *Agent) NetworkRemove(ctx context.Context, nameOrID string, force bool) error {
	s, err := a.requireMember()
	if err != nil {
		return err
	}
	n, ok := s.findNetwork(ctx, nameOrID)
	if !ok {
		return noNetwork(nameOrID)
	}
	what := "network rm " + n.Name
	v := s.directory.View()
	if users := endpointsOn(v, n.ID); len(users) > 0 && !force {
		return api.Errorf(api.KindConflict, "%s: in use by %s", what, strings.Join(users, ", ")).
			WithHint("agentctl network rm -f %s # detaches them", n.Name)
	}
	if n, err = s.pool.DeleteNetwork(ctx, n.Name, s.host.Name, force); err != nil {
		return s.explain(what, err)
	}
	if force {
		if err := s.freeAbsent(ctx, n); err != nil {
			return s.explain(what, err)
		}
	}
	return s.explain(what, s.awaitDeleted(ctx, n))
}

// endpointsOn lists who uses a network, as "name on host". A host's own address
// is no user: it goes with the network.
func endpointsOn(v discovery.View, id discovery.NetworkID) []string {
	var out []string
	for _, r := range v.Endpoints {
		if r.Network == id && r.Runtime != runtimeHost {
			out = append(out, fmt.Sprintf("%s on %s", r.Name, memberName(v, r.Host)))
		}
	}
	return out
}

// awaitDeleted waits until the network is gone everywhere in the pool. Every
// host gives its blocks back first; a host that is away may keep the network in
// state deleting, which is no failure.
func (s *session) awaitDeleted(ctx context.Context, n discovery.Network) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		s.poke()
		if _, ok := s.network(n.ID.String()); !ok {
			return nil
		}
		s.finishDeletions(ctx)
		select {
		case <-ctx.Done():
			if users := endpointsOn(s.directory.View(), n.ID); len(users) > 0 {
				return api.Errorf(api.KindConflict, "marked as deleting, but in use by %s", strings.Join(users, ", ")).
					WithHint("agentctl network rm -f %s # detaches them", n.Name)
			}
			return api.Errorf(api.KindTimeout, "marked as deleting, but a host still holds addresses of it").
				WithHint("agentctl network rm -f %s # frees those of hosts that are away", n.Name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// finishDeletions does this host's part for every network that is being
// deleted, and the last step if it is the one that sees it empty.
func (s *session) finishDeletions(ctx context.Context) {
	for _, n := range s.networkList() {
		if n.State != discovery.NetworkDeleting {
			continue
		}
		if s.emptied(ctx, n) {
			if _, err := s.pool.FinishDelete(ctx, n, s.host.Name); err != nil && ctx.Err() == nil {
				s.log.Debug("network not deleted yet", "network", n.Name, "err", err)
			}
		}
	}
}

// emptied gives back what this host holds of a network; false while an endpoint
// is on it that nobody forced off.
func (s *session) emptied(ctx context.Context, n discovery.Network) bool {
	for _, l := range s.journal.all() {
		if l.Endpoint.Network != n.ID {
			continue
		}
		if !n.Force && !l.ofHost() || !s.evict(ctx, l) {
			return false
		}
	}
	s.dropNetwork(n.ID)
	return true
}

// evict detaches an endpoint because its network is deleted.
func (s *session) evict(ctx context.Context, l Local) bool {
	if err := s.takeOff(ctx, l.Endpoint.ID, true, "its network is deleted"); err != nil {
		s.log.Warn("endpoint of a deleted network not removed", "endpoint", l.Endpoint.ID, "err", err)
		return false
	}
	return true
}

// leaveDeleted removes what this host still has of networks that were deleted
// while it was away: a person asked for that.
func (s *session) leaveDeleted(ctx context.Context) {
	s.mu.Lock()
	deleted := s.deleted
	s.mu.Unlock()
	for _, l := range s.journal.all() {
		if _, ok := deleted[l.Endpoint.Network]; ok {
			s.evict(ctx, l)
		}
	}
	for _, h := range s.leases.Blocks() {
		if _, ok := deleted[h.ID]; ok {
			s.dropNetwork(h.ID)
		}
	}
}

// dropNetwork forgets a network here: its devices go with the next pass, its
// blocks go back.
func (s *session) dropNetwork(id discovery.NetworkID) {
	s.mu.Lock()
	delete(s.used, id)
	s.mu.Unlock()
	if err := s.leases.Drop(id); err != nil {
		s.log.Warn("blocks of a deleted network not given back", "network", id, "err", err)
	}
}
