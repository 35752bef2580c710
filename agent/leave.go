package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
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
	if err := a.checkDockerLeaves(s, r); err != nil {
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
	s.freeAgain(ctx)
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
	s.names.Set(dns.Zone{Domain: s.cfg.Domain})
	s.conflists.set(nil, true)
	err := s.overlay.Clean(ctx)
	s.close()
	return errors.Join(err, a.dir.remove("cluster.json", "host.json", unfreedName, pendingName, "leases.db", "view.db", tokenFile, "consul-ca.pem"))
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
		errs = append(errs, s.takeOff(ctx, l.Endpoint.ID, true, "this host leaves"))
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
// safe to repeat. A host is given by name, or by its id, since a dead one may
// share its name with a living one.
func (s *session) remove(ctx context.Context, nameOrID string, progress func(string)) error {
	name := strings.ToLower(nameOrID)
	lost, err := s.deadMembers(name)
	if err != nil {
		return err
	}
	progress("fencing " + name)
	ids, err := s.fence(ctx, name, lost)
	if err != nil {
		return err
	}
	s.directory.Forget(ids)
	progress("waiting until every member knows")
	s.awaitFence(ctx, ids)
	progress("freeing what " + name + " held")
	for _, id := range ids {
		blocks, addrs, err := s.pool.FreeHeld(ctx, id)
		if err != nil {
			return err
		}
		s.log.Info("host removed", "member", name, "id", id, "blocks", blocks, "addrs", addrs)
	}
	s.poke()
	return nil
}

// deadMembers are those that gossip knows under a name or an id. A living one is
// an error.
func (s *session) deadMembers(nameOrID string) (dead []discovery.Member, err error) {
	for _, m := range s.directory.View().Members {
		switch {
		case m.Name != nameOrID && m.ID.String() != nameOrID || m.Status == discovery.StatusLeft:
		case m.Status == discovery.StatusAlive || m.Status == discovery.StatusSuspect:
			err = api.Errorf(api.KindConflict, "%s is alive at %s", m.Name, m.Gossip.Addr()).WithHint("agentctl leave # on %s", m.Name)
		default:
			dead = append(dead, m)
		}
	}
	if err != nil && len(dead) > 0 {
		err = api.Errorf(api.KindConflict, "a living host has the name %s as well", nameOrID).
			WithHint("agentctl leave --force %s # removes the dead one", dead[0].ID)
	}
	return dead, err
}

// fence removes those that gossip calls dead from the pool, by id: their record
// may have been lost with a wiped store, and their name be another's by now. A
// host that gossip does not know is found by its name there.
func (s *session) fence(ctx context.Context, name string, dead []discovery.Member) (ids []discovery.HostID, err error) {
	for _, m := range dead {
		if err := s.pool.FenceLost(ctx, m.ID, m.Name, s.host.Name); err != nil {
			return nil, err
		}
		ids = append(ids, m.ID)
	}
	if len(ids) > 0 {
		return ids, nil
	}
	h, err := s.pool.Fence(ctx, name, s.host.Name)
	return []discovery.HostID{h.ID}, err
}

// awaitFence waits until every alive member acknowledges the fences, at most
// 10 s: one that does not answer learns of it from the pool.
func (s *session) awaitFence(ctx context.Context, ids []discovery.HostID) {
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
			if !slices.Contains(ids, m.ID) && m.Status == discovery.StatusAlive && m.Header.GoneHash != own {
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

// gossipAnswers reports whether a kernel answers on a gossip address: with an
// agent, or without one by refusing. Its containers may run in either case.
func gossipAnswers(a netip.AddrPort) bool {
	c, err := net.DialTimeout("tcp", a.String(), 2*time.Second)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = c.Close()
	return true
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
