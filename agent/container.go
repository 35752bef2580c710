package agent

import (
	"context"
	"errors"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// DetachContainer implements api.Service. What is gone is no error, whichever
// of the container, the network and the membership it is: a runtime that gets
// one keeps the container and asks again.
func (a *Agent) DetachContainer(ctx context.Context, c api.ContainerRef) error {
	if c.Container == "" {
		return api.Errorf(api.KindMisuse, "detach container: its id is missing")
	}
	s := a.member()
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
			errs = append(errs, s.detachOne(ctx, l, "its runtime says so"))
		}
	}
	return s.explain("detach container "+c.Container+" from "+n.Name, errors.Join(errs...))
}

// detachOne takes an endpoint off under its sandbox's lock, unless another
// request just did. It returns when nobody is told of the endpoint any more and
// its address is free; the interface goes in the background, since removing one
// takes the kernel longer than all the rest. Who wants the sandbox or the address
// again waits for that.
func (s *session) detachOne(ctx context.Context, l Local, why string) error {
	id := l.Endpoint.ID
	unlock := s.locks.lock(l.Cookie)
	if _, ok := s.journal.get(id); !ok {
		unlock()
		return nil
	}
	idle, gone := s.working(id), s.unplugs.begin(l.Endpoint)
	tried := func() { idle(); unlock() }
	s.carry(l.Endpoint.Network)
	s.moveDefault(ctx, l)
	heir := s.heirOfPorts(l)
	if err := s.journal.change(heir, id); err != nil {
		gone()
		tried()
		return err
	}
	for _, o := range heir {
		s.ports.Pass(l.Ports, o.Endpoint.ID)
		l.Ports = nil
	}
	s.directory.Announce(nil, []discovery.EndpointID{id})
	err := s.leases.Free(ctx, l.Endpoint.Network, id)
	s.restoreResolv(l)
	err = errors.Join(err, ignoreKernel(s.settle(ctx)))
	s.ports.Release(l.Ports) // when they lead nowhere any more
	s.unplug(ctx, l, tried, gone)
	s.log.Info("endpoint detached: "+why, "endpoint", id, "name", l.Endpoint.Name, "container", l.Container, "addr", l.Addrs[0].Addr())
	return err
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
		if err := s.detachOne(ctx, l, "the container runs in another namespace"); err != nil {
			s.log.Warn("endpoint of an earlier run not removed", "endpoint", l.Endpoint.ID, "container", l.Container, "err", err)
		}
	}
}
