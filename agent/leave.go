package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// Leave implements api.Service: it takes this host out of the cluster, or, by
// force, a dead one.
func (a *Agent) Leave(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	s, err := a.requireMember()
	if err != nil {
		return err
	}
	if r.Force {
		return s.explain("leave --force "+r.Name, s.remove(ctx, r.Name, progress))
	}
	// Before anything is detached: leaving needs the store.
	if _, err := s.pool.Hosts(ctx); err != nil && s.forgottenBy() == "" {
		return s.explain("leave", err)
	}
	if err := s.vacate(ctx, r, progress); err != nil {
		return s.explain("leave", err)
	}
	done, err := a.exclusively("leave")
	if err != nil {
		return err
	}
	defer done()
	// From here on an impatient caller must not stop it halfway.
	ctx = context.WithoutCancel(ctx)
	if err := s.giveBack(ctx, r, progress); err != nil {
		return s.explain("leave", err)
	}
	progress("saying goodbye")
	if err := s.directory.Leave(ctx); err != nil {
		s.log.Warn("the members were not told", "err", err)
	}
	err = a.end(ctx, s)
	s.log.Info("left the cluster", "member", s.host.Name)
	return explain("leave", err)
}

// giveBack gives back all that this host holds in the pool. It begins with its
// own leases, on the disk: should the store fail halfway, nothing is handed out
// here that was given back there. A clone gives back nothing, since what the
// pool has under its id is the original's.
func (s *session) giveBack(ctx context.Context, r api.LeaveRequest, progress func(string)) (err error) {
	s.mu.Lock()
	cloned := s.cluster.Cloned
	s.leaving = true
	s.mu.Unlock()
	defer func() {
		if err != nil {
			s.mu.Lock()
			s.leaving = false
			s.mu.Unlock()
		}
	}()
	if cloned {
		return nil
	}
	progress("giving back what this host holds")
	// What was attached while nobody looked, and the host's own addresses.
	if err := errors.Join(s.vacate(ctx, api.LeaveRequest{Purge: r.Purge}, progress), s.detachAll(ctx)); err != nil {
		return err
	}
	for _, h := range s.leases.Blocks() {
		if err := s.leases.Drop(h.ID); err != nil {
			return err
		}
	}
	if err := s.pool.Unregister(ctx, s.host.ID, s.host.Name); err != nil && s.forgottenBy() == "" {
		return err
	}
	return nil
}

// end makes this host no member: nothing of the session stays, in the kernel or
// on the disk.
func (a *Agent) end(ctx context.Context, s *session) error {
	if a.docker != nil {
		if err := a.docker.Clear(ctx); err != nil {
			s.log.Warn("not every Docker network of the cluster is removed", "err", err)
		}
	}
	a.mu.Lock()
	a.session = nil
	a.mu.Unlock()
	s.halt()
	s.conflists.set(nil, true)
	err := s.overlay.Clean(ctx)
	s.close()
	return errors.Join(err, a.dir.remove("cluster.json", "host.json", "leases.db", "view.db", tokenFile, "consul-ca.pem"))
}

// dismiss ends a membership that the cluster has ended already. What still runs
// here is detached: its addresses were given away.
// The store must answer first: else the host would be in no cluster at all.
func (a *Agent) dismiss(ctx context.Context, s *session, progress func(string)) error {
	if _, err := s.pool.Hosts(ctx); err != nil {
		return err
	}
	progress("giving up the membership that was ended")
	ctx = context.WithoutCancel(ctx)
	return errors.Join(s.detachAll(ctx), a.end(ctx, s))
}

func (s *session) detachAll(ctx context.Context) error {
	var errs []error
	for _, l := range s.journal.all() {
		unlock := s.locks.lock(l.lockKey())
		errs = append(errs, s.detach(ctx, l))
		unlock()
	}
	return errors.Join(errs...)
}

// vacate makes sure that no endpoint runs here: it refuses, waits or detaches,
// as asked.
func (s *session) vacate(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	for {
		var left []string
		for _, l := range s.journal.all() {
			n, _ := s.network(l.Endpoint.Network.String())
			if !l.ofHost() {
				left = append(left, fmt.Sprintf("%s on %s", l.Endpoint.Name, n.Name))
			}
		}
		switch {
		case len(left) == 0:
			return nil
		case r.Purge:
			if err := s.detachAll(ctx); err != nil {
				return err
			}
		case !r.Wait:
			return api.Errorf(api.KindConflict, "endpoints run here: %s", strings.Join(left, ", ")).
				WithHint("agentctl leave --wait # until they are gone\nagentctl leave --purge # detaches them")
		default:
			progress("waiting for " + strings.Join(left, ", "))
			select {
			case <-ctx.Done():
				return api.Errorf(api.KindTimeout, "still here: %s", strings.Join(left, ", "))
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
}

// remove takes a dead host out: first the fence, so that it cannot come back
// with what is given away; then, when every member knows, what it held. It is
// safe to repeat.
func (s *session) remove(ctx context.Context, name string, progress func(string)) error {
	name = strings.ToLower(name)
	for _, m := range s.directory.View().Members {
		if m.Name == name && (m.Status == discovery.StatusAlive || m.Status == discovery.StatusSuspect) {
			return api.Errorf(api.KindConflict, "%s is alive at %s", name, m.Gossip.Addr()).WithHint("agentctl leave # on %s", name)
		}
	}
	progress("fencing " + name)
	h, err := s.pool.Fence(ctx, name, s.host.Name)
	if err != nil {
		return err
	}
	s.directory.Forget([]discovery.HostID{h.ID})
	progress("waiting until every member knows")
	s.awaitFence(ctx, h.ID)
	progress("freeing what " + name + " held")
	blocks, addrs, err := s.pool.FreeHeld(ctx, h.ID)
	if err != nil {
		return err
	}
	s.log.Info("host removed", "member", name, "blocks", blocks, "addrs", addrs)
	s.poke()
	return nil
}

// awaitFence waits until every alive member acknowledges the fence, at most
// 10 s: one that does not answer learns of it from the pool.
func (s *session) awaitFence(ctx context.Context, id discovery.HostID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		v := s.directory.View()
		var own uint64
		for _, m := range v.Members {
			if m.ID == v.Self {
				own = m.Header.GoneHash
			}
		}
		waiting := 0
		for _, m := range v.Members {
			if m.ID != id && m.Status == discovery.StatusAlive && m.Header.GoneHash != own {
				waiting++
			}
		}
		if waiting == 0 {
			return
		}
		select {
		case <-ctx.Done():
			s.log.Warn("not every member acknowledged the fence", "members", waiting)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// gossipAnswers reports whether an agent answers on a gossip address. Refused
// means a living kernel without an agent: its name may be taken.
func gossipAnswers(a netip.AddrPort) bool {
	c, err := net.DialTimeout("tcp", a.String(), 2*time.Second)
	if err != nil {
		return !errors.Is(err, syscall.ECONNREFUSED) && !isTimeout(err) && !errors.Is(err, syscall.EHOSTUNREACH)
	}
	_ = c.Close()
	return true
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// forgottenBy says who took this host out of the cluster; empty: nobody.
func (s *session) forgottenBy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forgotten
}

func (s *session) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}
