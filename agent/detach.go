package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// Detach implements api.Service. What is already gone is no error, so that a
// retried call succeeds.
func (a *Agent) Detach(ctx context.Context, network, nameOrID string) error {
	s, err := a.requireMember()
	if err != nil {
		return err
	}
	n, ok := s.network(network)
	if !ok && s.wasDeleted(network) {
		return nil // its endpoints went with it
	}
	if !ok {
		return noNetwork(network)
	}
	l, err := s.ownEndpoint(n, nameOrID)
	if err != nil || l.Endpoint.ID.IsZero() {
		return err
	}
	if l.Docker != nil {
		return api.Errorf(api.KindConflict, "detach %s from %s: it is a container of Docker's", nameOrID, n.Name).
			WithHint("docker network disconnect %s %s", n.Name, l.Endpoint.Name)
	}
	unlock := s.locks.lock(l.lockKey())
	defer unlock()
	if err := s.detach(ctx, l); err != nil {
		return s.explain("detach "+nameOrID+" from "+n.Name, err)
	}
	s.log.Info("endpoint detached", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name, "network", n.Name, "addr", l.Addrs[0].Addr())
	return nil
}

// wasDeleted reports whether a network of that name or id was deleted.
func (s *session) wasDeleted(nameOrID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, by := range s.deleted {
		if by.Name == nameOrID || id.String() == nameOrID {
			return true
		}
	}
	return false
}

// ownEndpoint finds an endpoint of this host by id or name; a zero Local when
// there is none. An id that another host holds is an error that names it.
func (s *session) ownEndpoint(n discovery.Network, nameOrID string) (Local, error) {
	want := strings.ToLower(nameOrID)
	var found []Local
	for _, l := range s.journal.all() {
		if l.Endpoint.Network != n.ID || l.ofHost() {
			continue
		}
		if l.Endpoint.ID.String() == want {
			return l, nil
		}
		if l.Endpoint.Name == want {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Local{}, s.elsewhere(n, want)
	}
	hints := make([]string, len(found))
	for i, l := range found {
		hints[i] = fmt.Sprintf("agentctl detach %s %s # %s", n.Name, l.Endpoint.ID, l.Addrs[0].Addr())
	}
	return Local{}, api.Errorf(api.KindConflict, "detach %s from %s: %d endpoints of this host have that name", nameOrID, n.Name, len(found)).
		WithHint("%s", strings.Join(hints, "\n"))
}

// elsewhere says on which host an endpoint id lives that is not ours.
func (s *session) elsewhere(n discovery.Network, id string) error {
	v := s.directory.View()
	for _, r := range v.Endpoints {
		if r.Network == n.ID && r.ID.String() == id && r.Host != v.Self {
			return api.Errorf(api.KindConflict, "detach %s from %s: it is on host %s", id, n.Name, memberName(v, r.Host)).
				WithHint("agentctl detach %s %s # on %s", n.Name, id, memberName(v, r.Host))
		}
	}
	return nil
}

// detach withdraws, unplugs and gives back, in the reverse order of attach. The
// caller holds the sandbox's lock.
func (s *session) detach(ctx context.Context, l Local) error {
	defer s.working(l.Endpoint.ID)()
	s.carry(l.Endpoint.Network)
	s.forgetAsking(l)
	s.moveDefault(ctx, l)
	// The journal comes first: an interface that it does not name is swept, so
	// a crash in between leaves nothing.
	if err := s.journal.remove(l.Endpoint.ID); err != nil {
		return err
	}
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	if err := s.overlay.Detach(ctx, l.Endpoint.ID.String()); err != nil {
		s.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
		return errors.Join(err, s.journal.put(l))
	}
	err := s.leases.Free(ctx, l.Endpoint.Network, l.Endpoint.ID)
	s.restoreResolv(l)
	return errors.Join(err, ignoreKernel(s.settle(ctx)))
}

// ignoreKernel: a kernel that is not as wanted is reported by status and
// retried; the endpoint is gone all the same.
func ignoreKernel(err error) error {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded, errEnded} {
		if errors.Is(err, end) {
			return err
		}
	}
	return nil
}

// reap removes endpoints whose sandbox is gone, gives those their interface
// back that lost it while the sandbox lives, and removes interfaces that no
// endpoint has: an agent died in between, or Docker has let go of it. Docker's
// endpoints end when Docker says so.
func (s *session) reap(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		there, err := s.overlay.Attached(ctx)
		if err != nil {
			s.log.Warn("cannot list the endpoints' interfaces", "err", err)
			continue
		}
		plugged := make(map[string]bool, len(there))
		for _, id := range there {
			plugged[id] = true
			s.unplugStray(ctx, id)
		}
		for _, l := range s.journal.all() {
			if !l.ofHost() && l.Docker == nil && !plugged[l.Endpoint.ID.String()] {
				s.mend(ctx, l.Endpoint.ID)
			}
		}
	}
}

// unplugStray removes an interface that belongs to no endpoint and that no
// request works on.
func (s *session) unplugStray(ctx context.Context, text string) {
	var id discovery.EndpointID
	if id.UnmarshalText([]byte(text)) != nil {
		return
	}
	s.mu.Lock()
	busy := s.attaching[id]
	s.mu.Unlock()
	if _, ok := s.journal.get(id); ok || busy || s.unplugs.removing(id) {
		return
	}
	if err := s.overlay.Detach(ctx, text); err != nil {
		s.log.Warn("interface without endpoint not removed", "endpoint", text, "err", err)
		return
	}
	s.log.Info("interface without endpoint removed", "endpoint", text)
}

// mend looks again, under the sandbox's lock, at an endpoint without an
// interface: a request may just be working on it.
func (s *session) mend(ctx context.Context, id discovery.EndpointID) {
	l, ok := s.journal.get(id)
	if !ok {
		return
	}
	unlock := s.locks.lock(l.lockKey())
	defer unlock()
	if l, ok = s.journal.get(id); !ok {
		return
	}
	n, known := s.network(l.Endpoint.Network.String())
	cookie, err := s.overlay.Identify(ctx, l.Sandbox)
	switch {
	case err == nil && cookie == l.Cookie && known:
		if err := s.overlay.Attach(ctx, s.link(n, l)); err != nil {
			s.log.Warn("endpoint lost its interface and cannot get it back", "endpoint", id, "err", err)
			return
		}
		s.log.Info("endpoint repaired", "endpoint", id, "name", l.Endpoint.Name, "network", n.Name)
		s.poke()
	case err == nil && cookie == l.Cookie:
	case err == nil || errors.Is(err, os.ErrNotExist):
		if err := s.detach(ctx, l); err != nil {
			s.log.Warn("endpoint of a vanished sandbox not removed", "endpoint", id, "err", err)
			return
		}
		s.log.Info("endpoint removed: its sandbox is gone", "endpoint", id, "name", l.Endpoint.Name, "addr", l.Addrs[0].Addr())
	}
}
