package agent

import (
	"context"
	"errors"

	"github.com/weft-net/weft/agent/api"
)

// DetachContainer implements api.Service. What is gone is no error, whichever
// of the container, the network and the membership it is: a runtime that gets
// one keeps the container and asks again.
func (a *Agent) DetachContainer(ctx context.Context, c api.ContainerRef) error {
	if c.Container == "" {
		return api.Errorf(api.KindMisuse, "detach container: its id is missing")
	}
	s := a.settled()
	if s == nil {
		return nil
	}
	n, ok := s.network(c.Network)
	if !ok {
		return nil // its endpoints went with it
	}
	var errs []error
	for _, l := range s.journal.all() {
		if l.Endpoint.Network == n.ID && l.Container == c.Container && (c.Ifname == "" || l.Ifname == c.Ifname) {
			errs = append(errs, s.takeOff(ctx, l.Endpoint.ID, false, "its runtime says so"))
		}
	}
	return s.explain("detach container "+c.Container+" from "+n.Name, errors.Join(errs...))
}

// detachEarlier frees what an earlier run of the container holds, whose
// namespace is another: its fixed address is wanted again now, and not when
// reap has noticed. A failure shows in the lease.
func (s *session) detachEarlier(ctx context.Context, w wantedEndpoint) {
	if w.container == "" {
		return
	}
	for _, l := range s.journal.all() {
		if l.Container != w.container || l.Endpoint.Network != w.network.ID || l.Ifname != w.ifname || l.Cookie == w.cookie {
			continue
		}
		if err := s.takeOff(ctx, l.Endpoint.ID, false, "the container runs in another namespace"); err != nil {
			s.log.Warn("endpoint of an earlier run not removed", "endpoint", l.Endpoint.ID, "container", l.Container, "err", err)
		}
	}
}
