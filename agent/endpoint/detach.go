package endpoint

import (
	"context"
	"errors"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Detach takes an endpoint of this host off a network, by its name, alias, id or the
// start of an id. What is already gone is no error, so that a retried call succeeds.
func (m *Manager) Detach(ctx context.Context, n discovery.Network, nameOrID string) error {
	l, err := m.own(n, nameOrID)
	if err != nil || l.Endpoint.ID.IsZero() {
		return err
	}
	if l.Docker != nil {
		return api.Errorf(api.KindConflict, "detach %s from %s: it is a container of Docker's", nameOrID, n.Name).
			WithHint("docker network disconnect %s %s", n.Name, l.Endpoint.Name)
	}
	return m.detachByID(ctx, l.Endpoint.ID, true, "a request says so")
}

// DetachContainer takes a container off a network, from one interface or, with an
// empty ifname, from all. It does not wait until the interfaces are gone.
func (m *Manager) DetachContainer(ctx context.Context, n discovery.NetworkID, container, ifname string) error {
	var errs []error
	for _, l := range m.Journal.All() {
		if l.Endpoint.Network == n && l.Container == container && (ifname == "" || l.Ifname == ifname) {
			errs = append(errs, m.detachByID(askedBy(ctx, l.Endpoint.Runtime), l.Endpoint.ID, false, "its runtime says so"))
		}
	}
	return errors.Join(errs...)
}

// DetachAll takes everything off, this host's own addresses too.
func (m *Manager) DetachAll(ctx context.Context) error {
	var errs []error
	for _, l := range m.Journal.All() {
		errs = append(errs, m.detachByID(ctx, l.Endpoint.ID, true, "this host leaves"))
	}
	return errors.Join(errs...)
}

// detachEarlier detaches what an earlier run of the container left, in another
// namespace. The container may want its fixed address again before the sweep has
// noticed that the earlier run is over. A failure shows when the address is leased.
func (m *Manager) detachEarlier(ctx context.Context, w Wanted) {
	if w.container == "" {
		return
	}
	for _, l := range m.Journal.All() {
		if l.Container != w.container || l.Endpoint.Network != w.Network.ID || l.Ifname != w.ifname || l.Cookie == w.cookie {
			continue
		}
		if err := m.detachByID(askedBy(ctx, w.runtime), l.Endpoint.ID, false, "the container runs in another namespace"); err != nil {
			m.Log.Warn("endpoint of an earlier run not removed", "endpoint", l.Endpoint.ID, "container", l.Container, "err", err)
		}
	}
}

// detachByID detaches an endpoint, unless another request just did.
func (m *Manager) detachByID(ctx context.Context, id discovery.EndpointID, unplugged bool, why string) error {
	began := time.Now()
	l, unlock, ok, err := m.lockLocal(ctx, id)
	if !ok {
		return err
	}
	defer unlock()
	err = m.detach(ctx, l, unplugged, why)
	m.count.detached.note(l.Endpoint.Runtime, began, err)
	return err
}

// detachFor bounds the rest of a detach that can no longer be taken back. It goes
// on when its caller has given up.
const detachFor = 10 * time.Second

// detach withdraws an endpoint, frees its address and unplugs it. The caller holds
// the endpoint's lock. When detach returns, the endpoint is not announced any more
// and its address is free. With unplugged the interface is gone too. Otherwise it
// is removed in the background, since that takes the kernel longer than all the
// rest; the next request for the sandbox or the address waits for it.
func (m *Manager) detach(ctx context.Context, l journal.Local, unplugged bool, why string) error {
	id := l.Endpoint.ID
	defer m.busy.mark(id)()
	leaving := m.unplugs.begin(l.Endpoint, l.LockKey())
	m.used.note(l.Endpoint.Network)
	m.forgetResolvers(l)
	m.moveDefault(ctx, l)
	successor := m.ports.successor(l)
	// The journal comes first: an interface that it does not name is swept, so
	// a crash in between leaves nothing.
	if err := m.Journal.Change(successor, id); err != nil {
		leaving.cancel()
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachFor)
	defer cancel()
	for _, o := range successor {
		m.Ports.Pass(id, l.Ports, o.Endpoint.ID)
		m.announceAgain(o)
		l.Ports = nil
	}
	m.directory.Announce(nil, []discovery.EndpointID{id})
	err := m.leases.Free(ctx, l.Endpoint.Network, id)
	m.restoreResolv(l)
	err = errors.Join(err, ignoreKernel(m.Cluster.Settle(ctx)))
	m.Ports.Release(id, l.Ports) // when they lead nowhere any more
	m.unplug(ctx, leaving)
	if unplugged {
		<-leaving.tried
		err = errors.Join(err, leaving.err)
	}
	network := l.Endpoint.Network.String()
	if n, ok := m.Cluster.Network(l.Endpoint.Network); ok {
		network = n.Name
	}
	m.tell(ctx, event.EndpointDetached, l, why)
	m.Log.Info("endpoint detached: "+why, "endpoint", id, "name", l.Endpoint.Name, "network", network, "container", l.Container, "addr", l.Addrs[0].Addr())
	return err
}

// forgetResolvers removes what Docker said of how the endpoint's container asks for
// names.
func (p *parts) forgetResolvers(l journal.Local) {
	if l.Docker != nil {
		p.Host.Resolvers.Set(l.Docker.EndpointID, nil)
		p.Host.Resolvers.SetOtherAddrs(l.Endpoint.ID, nil)
	}
}

// ErrEnded is the error of a request during which this host left the cluster, or
// the agent stopped.
var ErrEnded = errors.New("the agent stops or has left the cluster")

// ignoreKernel passes over what the kernel refused in a pass: status reports it,
// and the agent tries it again. The endpoint is made, or removed, all the same.
func ignoreKernel(err error) error {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded, ErrEnded} {
		if errors.Is(err, end) {
			return err
		}
	}
	return nil
}
