package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
	return s.explain("detach "+nameOrID+" from "+n.Name, s.takeOff(ctx, l.Endpoint.ID, true, "a request says so"))
}

// wasDeleted reports whether a network of that name or id was deleted.
func (s *session) wasDeleted(nameOrID string) bool {
	nameOrID = strings.ToLower(nameOrID)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, by := range s.deleted {
		if by.Name == nameOrID || id.String() == nameOrID {
			return true
		}
	}
	return false
}

// ownEndpoint finds an endpoint of this host by name, id or the start of an id; a
// zero Local when there is none. One of another host is an error that names it.
func (s *session) ownEndpoint(n discovery.Network, nameOrID string) (Local, error) {
	want := strings.ToLower(nameOrID)
	var found, called, begin []Local
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
		if slices.Contains(l.Endpoint.Aliases, want) {
			called = append(called, l)
		}
		if startsID(l.Endpoint.ID, want) {
			begin = append(begin, l)
		}
	}
	for _, others := range [][]Local{called, begin} {
		if len(found) == 0 {
			found = others
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

// startsID reports whether text is the start of an id, of at least four digits.
func startsID(id discovery.EndpointID, text string) bool {
	return len(text) >= 4 && strings.HasPrefix(id.String(), text)
}

// elsewhere says on which hosts endpoints live that are not ours.
func (s *session) elsewhere(n discovery.Network, nameOrID string) error {
	v := s.directory.View()
	var hosts, hints []string
	for _, r := range v.Endpoints {
		if r.Network != n.ID || r.Host == v.Self || r.Name != nameOrID && !startsID(r.ID, nameOrID) {
			continue
		}
		host := memberName(v, r.Host)
		if slices.Contains(hosts, host) {
			continue
		}
		hosts = append(hosts, host)
		if m := memberOf(v, r.Host); m.Status == discovery.StatusDead {
			hints = append(hints, fmt.Sprintf("agentctl leave --force %s # if that host is gone for good", host))
		} else {
			hints = append(hints, fmt.Sprintf("ssh %s agentctl detach %s %s", m.Header.VTEP, n.Name, nameOrID))
		}
	}
	switch len(hosts) {
	case 0:
		return nil
	case 1:
		return api.Errorf(api.KindConflict, "detach %s from %s: %s is on host %s", nameOrID, n.Name, nameOrID, hosts[0]).WithHint("%s", hints[0])
	}
	return api.Errorf(api.KindConflict, "detach %s from %s: endpoints of that name are on hosts %s", nameOrID, n.Name, strings.Join(hosts, ", ")).
		WithHint("%s", strings.Join(hints, "\n"))
}

// lockLocal takes the lock of an endpoint's sandbox, and reads under it what the
// journal has of the endpoint: a request that held it before may have changed
// that. false, with nothing locked, when the endpoint is gone.
func (s *session) lockLocal(id discovery.EndpointID) (l Local, unlock func(), ok bool) {
	if l, ok = s.journal.get(id); !ok {
		return Local{}, nil, false
	}
	unlock = s.locks.lock(l.lockKey())
	if l, ok = s.journal.get(id); !ok {
		unlock()
		return Local{}, nil, false
	}
	return l, unlock, true
}

// takeOff detaches an endpoint, unless another request just did.
func (s *session) takeOff(ctx context.Context, id discovery.EndpointID, unplugged bool, why string) error {
	l, unlock, ok := s.lockLocal(id)
	if !ok {
		return nil
	}
	return s.detach(ctx, l, unlock, unplugged, why)
}

// detachFor bounds the rest of a detach once it cannot be taken back, whoever
// has given up waiting for it.
const detachFor = 10 * time.Second

// detach withdraws, gives back and unplugs an endpoint whose lock the caller took,
// and lets go of the lock. When it returns nobody is told of the endpoint any more
// and its address is free. With unplugged the interface is gone too; else it goes
// in the background, since removing one takes the kernel longer than all the rest,
// and whoever wants the sandbox or the address again waits for that.
func (s *session) detach(ctx context.Context, l Local, unlock func(), unplugged bool, why string) error {
	id := l.Endpoint.ID
	idle, gone := s.markBusy(id), s.unplugs.begin(l.Endpoint)
	tried := func() { idle(); unlock() }
	s.carry(l.Endpoint.Network)
	s.forgetAsking(l)
	s.moveDefault(ctx, l)
	heir := s.heirOfPorts(l)
	// The journal comes first: an interface that it does not name is swept, so
	// a crash in between leaves nothing.
	if err := s.journal.change(heir, id); err != nil {
		gone()
		tried()
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachFor)
	defer cancel()
	for _, o := range heir {
		s.ports.Pass(l.Endpoint.ID, l.Ports, o.Endpoint.ID)
		l.Ports = nil
	}
	s.directory.Announce(nil, []discovery.EndpointID{id})
	err := s.leases.Free(ctx, l.Endpoint.Network, id)
	s.restoreResolv(l)
	err = errors.Join(err, ignoreKernel(s.settle(ctx)))
	s.ports.Release(id, l.Ports) // when they lead nowhere any more
	first := s.unplug(ctx, l, tried, gone)
	if unplugged {
		err = errors.Join(err, <-first)
	}
	network := l.Endpoint.Network.String()
	if n, ok := s.network(network); ok {
		network = n.Name
	}
	s.log.Info("endpoint detached: "+why, "endpoint", id, "name", l.Endpoint.Name, "network", network, "container", l.Container, "addr", l.Addrs[0].Addr())
	return err
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
	l, unlock, ok := s.lockLocal(id)
	if !ok {
		return
	}
	n, known := s.network(l.Endpoint.Network.String())
	gone, err := s.vanished(ctx, l)
	if gone {
		if err := s.detach(ctx, l, unlock, true, "its sandbox is gone"); err != nil {
			s.log.Warn("endpoint of a vanished sandbox not removed", "endpoint", id, "err", err)
		}
		return
	}
	defer unlock()
	if err != nil || !known {
		return
	}
	if err := s.overlay.Attach(ctx, s.link(n, l)); err != nil {
		s.log.Warn("endpoint lost its interface and cannot get it back", "endpoint", id, "err", err)
		return
	}
	s.restoreResolv(l) // agentd cleanup takes it away with the interface
	s.log.Info("endpoint repaired", "endpoint", id, "name", l.Endpoint.Name, "network", n.Name)
	s.poke()
}

// vanished reports whether an endpoint's sandbox is no more: nothing is at its
// path, another namespace is, or the machine was started again since.
func (s *session) vanished(ctx context.Context, l Local) (bool, error) {
	if l.Boot != "" && l.Boot != s.machine.BootID() {
		return true, nil
	}
	cookie, err := s.overlay.Identify(ctx, l.Sandbox)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return err == nil && cookie != l.Cookie, err
}

// clearStale removes endpoints of this host that are in the way of a request and
// whose sandbox is no more: a namespace that is made again at once is attached
// before the sweep has seen that the first one went.
func (s *session) clearStale(ctx context.Context, w wantedEndpoint) {
	for _, l := range s.journal.all() {
		again := l.Sandbox == w.sandbox && l.Cookie != w.cookie
		holds := w.addr.IsValid() && l.Endpoint.Network == w.network.ID && slices.Contains(l.Endpoint.Addrs(), w.addr)
		if l.Sandbox == "" || !again && !holds {
			continue
		}
		if gone, err := s.vanished(ctx, l); err == nil && gone && s.unplugged(ctx, l.Endpoint.ID) {
			s.mend(ctx, l.Endpoint.ID)
		}
	}
}

// teardown is how long the kernel may take to remove the interfaces of a
// namespace that was deleted. One that a process holds keeps them for longer: it
// lives, without a name.
const teardown = time.Second

// unplugged waits until an endpoint has no interface any more.
func (s *session) unplugged(ctx context.Context, id discovery.EndpointID) bool {
	ctx, cancel := context.WithTimeout(ctx, teardown)
	defer cancel()
	for {
		there, err := s.overlay.Attached(ctx)
		if err == nil && !slices.Contains(there, id.String()) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}
