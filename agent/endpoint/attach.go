package endpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Attach makes the endpoint that a checked request wants: it leases an address,
// plugs the interface and announces the endpoint. When a step fails, it undoes
// those before in reverse. When it returns, this host's DNS server answers the
// name. A request that is repeated gets the same answer.
func (m *Manager) Attach(ctx context.Context, w Wanted) (out api.Attachment, err error) {
	began := time.Now()
	defer func() { m.count.attached.note(w.runtime, began, err) }()
	m.clearStale(ctx, w)
	m.detachEarlier(ctx, w)
	return m.attachOnce(ctx, w)
}

func (m *Manager) attachOnce(ctx context.Context, w Wanted) (api.Attachment, error) {
	unlock, err := m.locks.lock(ctx, w.cookie)
	if err != nil {
		return api.Attachment{}, err
	}
	defer unlock()
	if w.container != "" && (w.Network.Internal || m.ports.elsewhere(w)) {
		w.ports = nil // a runtime gives a container's ports with each of its networks
	}
	if l, ok := m.served(w); ok {
		return m.attachAgain(ctx, w, l)
	}
	if err := m.unplugs.waitTried(ctx, w.cookie); err != nil {
		return api.Attachment{}, err
	}
	start := time.Now()
	l, err := m.attachFree(ctx, w)
	if err != nil {
		return api.Attachment{}, err
	}
	m.Log.Info("endpoint attached", "endpoint", l.Endpoint.ID, "name", w.name, "network", w.Network.Name,
		"addr", l.Addrs[0], "took", time.Since(start))
	m.tell(askedBy(ctx, w.runtime), event.EndpointAttached, l, "")
	out := m.Answer(w.Network, l)
	for _, name := range slices.Concat([]string{w.name}, w.aliases) {
		if what := dns.NeverAsked(name); what != "" {
			out.Notices = append(out.Notices, fmt.Sprintf("every program takes %s for %s: ask for %s.%s", name, what, name, w.Network.Name))
		}
	}
	if l.Resolv != "" {
		if err := m.renderResolv(w.netns); err != nil {
			out.Notices = append(out.Notices, fmt.Sprintf("/etc/netns/%s/resolv.conf not written: %v", w.netns, err))
		}
		if missing := resolvers.Missing(resolvers.HostConf); missing != "" {
			out.Notices = append(out.Notices, missing+": ip netns exec cannot give "+w.netns+" its own, so no name resolves there")
		}
	}
	return out, nil
}

// attachAgain answers a request that was served before. What somebody changed in the
// sandbox meanwhile is put back: a runtime that asks again expects an interface with
// its address and routes.
func (m *Manager) attachAgain(ctx context.Context, w Wanted, l journal.Local) (api.Attachment, error) {
	if err := sameEndpoint(l, w); err != nil {
		return api.Attachment{}, err
	}
	if l.Docker == nil {
		ep := m.link(w.Network, l)
		ep.Sandbox = w.sandbox // by which it is open now
		if err := m.Kernel.Attach(ctx, ep); err != nil {
			return api.Attachment{}, err
		}
	}
	return m.Answer(w.Network, l), nil
}

// served finds the endpoint that the request was already served with.
func (p *parts) served(w Wanted) (journal.Local, bool) {
	if w.ifname != "" {
		return p.Journal.Find(w.Network.ID, w.cookie, w.ifname)
	}
	for _, l := range p.Journal.All() {
		if l.Cookie == w.cookie && l.Endpoint.Network == w.Network.ID {
			return l, true
		}
	}
	return journal.Local{}, false
}

// attachFree attaches under the interface's name that the user chose, else under
// the first free ethN. It passes over a name that another program's interface has
// in the sandbox.
func (m *Manager) attachFree(ctx context.Context, w Wanted) (journal.Local, error) {
	if w.ifname != "" {
		return m.attach(ctx, w)
	}
	for taken := map[string]bool{}; ; taken[w.ifname] = true {
		w.ifname = m.freeIfname(w.cookie, taken)
		l, err := m.attach(ctx, w)
		if !errors.Is(err, overlay.ErrIfnameTaken) {
			return l, err
		}
	}
}

// freeIfname is the first ethN that no endpoint of the sandbox has, and that is not
// in taken.
func (p *parts) freeIfname(cookie uint64, taken map[string]bool) string {
	taken = maps.Clone(taken)
	for _, o := range p.Journal.All() {
		if o.Cookie == cookie {
			taken[o.Ifname] = true
		}
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !taken[name] {
			return name
		}
	}
}

// attach does the steps for an endpoint that is not there yet.
func (m *Manager) attach(ctx context.Context, w Wanted) (l journal.Local, err error) {
	var id discovery.EndpointID
	_, _ = rand.Read(id[:])
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			f()
		}
	}()
	// The caller may cancel the request half-way: what it did is undone all the
	// same.
	clean := context.WithoutCancel(ctx)
	defer m.busy.mark(id)()

	lease, err := m.leases.Lease(askedBy(ctx, w.runtime), w.Network, id, w.addr)
	if err != nil {
		return journal.Local{}, err
	}
	undo = append(undo, func() { _ = m.leases.Free(clean, w.Network.ID, id) })

	l = m.describe(w, id, lease.Addr, lease.Seq)
	release, err := m.stations.hold(ctx, w.Network, l.Endpoint.MAC)
	if err != nil {
		return journal.Local{}, err
	}
	defer release()
	if l.Ports, err = m.ports.reserve(w.Network, l, w.ports); err != nil {
		return journal.Local{}, err
	}
	ports := l.Ports
	undo = append(undo, func() { m.Ports.Release(id, ports) })
	undo = append(undo, func() { _ = m.Kernel.Detach(clean, id.String()) }, func() { _ = m.Journal.Remove(id) })
	if err := m.plug(ctx, w.Network, l); err != nil {
		return journal.Local{}, err
	}
	undo = append(undo, func() { m.directory.Announce(nil, []discovery.EndpointID{id}); m.Cluster.Poke() })
	m.directory.Announce([]discovery.Endpoint{l.Announced()}, nil)
	if err := ignoreKernel(m.Cluster.Settle(ctx)); err != nil {
		return journal.Local{}, err
	}
	return l, nil
}

// plug makes the endpoint's interface and writes the endpoint into the journal. It
// holds the network until the journal does. The disk and the kernel work side by
// side. When the agent dies in between, the next one's sweep removes an interface
// without an endpoint, and mends an endpoint without an interface.
func (p *parts) plug(ctx context.Context, n discovery.Network, l journal.Local) error {
	return p.holding(ctx, n, func() error {
		if err := p.unplugs.wait(ctx, l.Addrs[0].Addr()); err != nil {
			return err
		}
		written := make(chan error, 1)
		go func() { written <- p.Journal.Put(l) }()
		err := p.Kernel.Attach(ctx, p.link(n, l))
		return errors.Join(err, <-written)
	})
}

// holding does what needs the network's devices, and keeps them while it is done.
func (p *parts) holding(ctx context.Context, n discovery.Network, do func() error) error {
	release, err := p.Cluster.Hold(ctx, n.ID)
	defer release()
	if end := ignoreKernel(err); end != nil {
		return end
	}
	if err != nil {
		p.Log.Warn("network not whole in the kernel", "network", n.Name, "err", err)
	}
	err = do()
	if _, known := p.Cluster.Network(n.ID); !known && errors.Is(err, overlay.ErrNoNetwork) {
		return api.NoNetwork(n.Name) // it was deleted meanwhile
	}
	return err
}

// describe makes the journal's entry of a request and its lease.
func (p *parts) describe(w Wanted, id discovery.EndpointID, addr netip.Prefix, seq uint64) journal.Local {
	l := journal.Local{
		Endpoint: discovery.Endpoint{
			ID: id, Network: w.Network.ID, MAC: w.mac, Seq: seq,
			Name: w.name, Aliases: w.aliases, Runtime: w.runtime,
		},
		Sandbox: w.sandbox, Cookie: w.cookie, Boot: p.Host.Boot(), Ifname: w.ifname, Container: w.container,
		Addrs: []netip.Prefix{addr}, NoDefault: w.noRoute || w.Network.Internal, NoRoute: w.noRoute,
		Labels: w.labels, Created: time.Now().UTC(),
	}
	if w.container == "" {
		l.Resolv = w.netns // a runtime writes its containers' resolv.conf
	}
	if addr.Addr().Is4() {
		l.Endpoint.IPv4 = addr.Addr()
	} else {
		l.Endpoint.IPv6 = addr.Addr()
	}
	if l.Endpoint.MAC.IsZero() {
		l.Endpoint.MAC = plan.EndpointMAC(w.Network.VNI, addr.Addr())
	}
	for _, o := range p.Journal.All() {
		// One default route for each sandbox: the first network's.
		l.NoDefault = l.NoDefault || o.Cookie == w.cookie && !o.NoDefault
	}
	return l
}
