package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
)

// Leave implements api.Service: it takes this host out of the cluster, or, by
// force, a dead one.
func (a service) Leave(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	m, err := a.requireMember()
	if p, ok := a.pendingInit(); err != nil && ok && !r.Force {
		return a.giveUpInit(ctx, p, r, progress)
	}
	if err != nil {
		return err
	}
	if r.Force {
		err := m.host.Remove(ctx, r.Name, r.EvenIfRunning, progress)
		tellForced(ctx, m, r, err)
		m.Poke()
		return m.explain("leave --force "+r.Name, err)
	}
	// Before anything is detached: leaving needs the store.
	if _, err := m.pool.Records.Hosts(ctx); err != nil && m.host.ForgottenBy() == "" {
		return m.explain("leave", err)
	}
	if err := a.checkDockerLeaves(m, r); err != nil {
		return m.explain("leave", err)
	}
	if err := m.vacate(ctx, r, progress); err != nil {
		return m.explain("leave", err)
	}
	done, err := a.exclusively("leave")
	if err != nil {
		return err
	}
	defer done()
	// From here on an impatient caller must not stop it halfway.
	ctx = context.WithoutCancel(ctx)
	if err := m.giveBack(ctx, r, progress); err != nil {
		return m.explain("leave", err)
	}
	progress("saying goodbye")
	if err := m.directory.Leave(ctx); err != nil {
		m.log.Warn("the members were not told", "err", err)
	}
	err = a.end(ctx, m)
	tellMember(ctx, m, event.MemberLeft, "left the cluster")
	m.log.Info("left the cluster", discovery.LogMember(m.host.Host().Name, m.host.Host().ID))
	return diagnose.Explain("leave", err)
}

// giveBack gives back all that this host holds in the pool. It begins with its
// own leases, on the disk: should the store fail halfway, nothing is handed out
// here that was given back there.
func (m *member) giveBack(ctx context.Context, r api.LeaveRequest, progress func(string)) (err error) {
	m.host.SetLeaving(true)
	defer func() {
		if err != nil {
			m.host.SetLeaving(false)
		}
	}()
	progress("giving back what this host holds")
	// What was attached since the first look, and the host's own addresses.
	if err := errors.Join(m.vacate(ctx, api.LeaveRequest{Purge: r.Purge}, progress), m.endpoints.DetachAll(ctx)); err != nil {
		return err
	}
	m.host.FreeOwed(ctx)
	for _, h := range m.leases.Blocks() {
		if err := m.leases.Drop(h.ID); err != nil {
			return err
		}
	}
	if err := m.host.Unregister(ctx); err != nil && m.host.ForgottenBy() == "" {
		return err
	}
	return nil
}

// end makes this host no member: nothing of the membership stays, in the kernel or
// on the disk.
func (a *Agent) end(ctx context.Context, m *member) error {
	if a.docker != nil {
		if err := a.docker.Clear(ctx); err != nil {
			m.log.Warn("not every Docker network of the cluster is removed", "err", err)
		}
	}
	a.mu.Lock()
	a.now = nil
	a.mu.Unlock()
	err := m.end(ctx)
	a.refused.Set(strict.Pool, nil)
	_ = os.Remove(journalCopy(m.cfg.RunDir))
	return errors.Join(err, a.dir.Forget())
}

// dismiss ends a membership that the cluster has ended already. What still runs
// here is detached: its addresses were given away.
// The store must answer first: else the host would be in no cluster at all.
func (a *Agent) dismiss(ctx context.Context, m *member, progress func(string)) error {
	if _, err := m.pool.Records.Hosts(ctx); err != nil {
		return err
	}
	progress("giving up the membership that was ended")
	ctx = context.WithoutCancel(ctx)
	return errors.Join(m.endpoints.DetachAll(ctx), a.end(ctx, m))
}

// vacate makes sure that no endpoint runs here: it refuses, waits or detaches,
// as asked.
func (m *member) vacate(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	for {
		left := m.endpoints.Names()
		switch {
		case len(left) == 0:
			return nil
		case r.Purge:
			if err := m.endpoints.DetachAll(ctx); err != nil {
				return err
			}
		case !r.Wait:
			return api.Errorf(api.KindConflict, "endpoints run here: %s", strings.Join(left, ", ")).
				WithHint("agentctl leave --wait # until they are gone\nagentctl leave --purge # detaches them")
		default:
			progress(fmt.Sprintf("waiting for %s", strings.Join(left, ", ")))
			if !pace.Sleep(ctx, 500*time.Millisecond) {
				return api.Errorf(api.KindTimeout, "still here: %s", strings.Join(left, ", "))
			}
		}
	}
}
