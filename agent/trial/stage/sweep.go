package stage

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

const (
	sweepEvery = 2 * time.Second
	removeFor  = 15 * time.Second
)

// Run sweeps until ctx ends, and ends the run that is under way then: it begins with
// what an agent before this one left.
func (s *Stage) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.hush()
			return nil
		case <-tick.C:
		}
		s.expire(ctx)
		s.sweep(ctx, time.Now())
	}
}

// hush ends the run when the agent ends.
func (s *Stage) hush() {
	s.mu.Lock()
	r := s.run
	s.mu.Unlock()
	if r != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.end(ctx, r) // what it says is in the log
	}
}

// expire ends a run whose asker is gone.
func (s *Stage) expire(ctx context.Context) {
	s.mu.Lock()
	r := s.run
	gone := r != nil && (time.Since(r.touched) > orphaned || r.ctx.Err() != nil)
	if gone {
		if len(s.expired) > 1000 {
			clear(s.expired)
		}
		s.expired[r.id] = true
	}
	s.mu.Unlock()
	if gone {
		s.cfg.Log.Warn("nobody asks for a run of the suite any more", "run", r.id, "by", r.by)
		ctx, cancel := context.WithTimeout(ctx, removeFor)
		defer cancel()
		_ = s.end(ctx, r)
	}
}

// sweep removes what is left of runs that are not under way here: own endpoints, and
// networks that this host asked for, or whose run expired.
func (s *Stage) sweep(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, removeFor)
	defer cancel()
	s.clear(ctx)
	networks, err := s.cfg.Host.Networks(ctx)
	if err != nil {
		return // no member, or not yet
	}
	left := false
	for _, n := range networks {
		id, ok := RunOf(n)
		left = left || ok && !s.runs(id)
	}
	if !left {
		return
	}
	own, err := s.cfg.Host.Endpoints(ctx, api.EndpointFilter{Host: s.cfg.Self(), All: true})
	if err != nil {
		return
	}
	for _, e := range own {
		if id := e.Labels[LabelRun]; e.Local && !s.runs(id) && validRun(id) && strings.HasPrefix(e.Network, NetworkName(id, "")) {
			s.note("endpoint", e.Name, id, s.cfg.Host.Detach(ctx, e.Network, e.ID))
		}
	}
	for _, n := range networks {
		if id, ok := RunOf(n); ok && !s.runs(id) && s.mine(n, now) {
			s.note("network", n.Name, id, s.cfg.Host.NetworkRemove(ctx, n.Name, true))
		}
	}
}

// clear removes containers that an agent before this one made, once.
func (s *Stage) clear(ctx context.Context) {
	s.mu.Lock()
	cleared, current := s.cleared, ""
	if s.run != nil {
		current = s.run.id
	}
	s.mu.Unlock()
	if cleared || s.noDocker() != "" {
		return
	}
	if err := s.cfg.Engine.Remove(ctx, LabelRun, current); err != nil {
		s.cfg.Log.Warn("containers of a run of the suite are not removed yet", "err", err)
		return
	}
	s.mu.Lock()
	s.cleared = true
	s.mu.Unlock()
}

// runs reports whether a run is under way here now. One that began after something of it
// was listed is: it begins before anything of it is made.
func (s *Stage) runs(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run != nil && s.run.id == id
}

// mine reports whether it is this host's business to remove a network.
func (s *Stage) mine(n api.Network, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking[n.Labels[LabelRun]] {
		return false
	}
	until, err := strconv.ParseInt(n.Labels[LabelUntil], 10, 64)
	return n.Labels[LabelBy] == s.cfg.Self() || s.expired[n.Labels[LabelRun]] || err == nil && now.Unix() > until
}

func (s *Stage) note(what, name, run string, err error) {
	if err != nil && api.KindOf(err) != api.KindNotFound { // else another host was first
		s.cfg.Log.Warn("what is left of a run of the suite is not removed yet", what, name, "run", run, "err", err)
		return
	}
	s.cfg.Log.Info("what was left of a run of the suite is removed", what, name, "run", run)
}
