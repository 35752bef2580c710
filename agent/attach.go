package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Attach implements api.Service: lease, attach, announce; undone in reverse
// when a step fails. It returns when the name is answered on this host.
func (a *Agent) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	what := "attach " + r.Name
	w, err := s.checkAttach(ctx, r)
	if err != nil {
		return api.Attachment{}, s.explain(what, err)
	}
	s.clearStale(ctx, w)
	s.detachEarlier(ctx, w)
	out, err := s.attachOnce(ctx, w)
	return out, s.explain(what+" to "+w.network.Name, err)
}

// attachOnce attaches what is wanted; a request that was served before has the
// same answer.
func (s *session) attachOnce(ctx context.Context, w wantedEndpoint) (api.Attachment, error) {
	unlock := s.locks.lock(w.cookie)
	defer unlock()
	if w.container != "" && (w.network.Internal || s.publishes(w)) {
		w.ports = nil // a runtime gives a container's ports with each of its networks
	}
	if l, ok := s.attached(w); ok {
		return s.attachment(w.network, l), sameEndpoint(l, w)
	}
	start := time.Now()
	l, err := s.attachFree(ctx, w)
	if err != nil {
		return api.Attachment{}, err
	}
	s.log.Info("endpoint attached", "endpoint", l.Endpoint.ID, "name", w.name, "network", w.network.Name,
		"addr", l.Addrs[0], "took", time.Since(start))
	out := s.attachment(w.network, l)
	if l.Resolv != "" {
		if err := s.renderResolv(w.netns); err != nil {
			out.Notices = append(out.Notices, fmt.Sprintf("/etc/netns/%s/resolv.conf not written: %v", w.netns, err))
		}
	}
	return out, nil
}

// attach does the three steps for an endpoint that is not there yet.
func (s *session) attach(ctx context.Context, w wantedEndpoint) (l Local, err error) {
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
	// The request may be cancelled half-way; what it did is undone all the same.
	clean := context.WithoutCancel(ctx)
	defer s.markBusy(id)()

	lease, err := s.leases.Lease(ctx, w.network, id, w.addr)
	if err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { _ = s.leases.Free(clean, w.network.ID, id) })

	l = s.newLocal(w, id, lease.Addr, lease.Seq)
	release, err := s.holdMAC(ctx, w.network, l.Endpoint.MAC)
	if err != nil {
		return Local{}, err
	}
	defer release()
	if l.Ports, err = s.reserve(w.network, l, w.ports); err != nil {
		return Local{}, err
	}
	ports := l.Ports
	undo = append(undo, func() { s.ports.Release(id, ports) })
	s.carry(w.network.ID)
	if !s.programmed(w.network.ID) {
		if err := s.settle(ctx); err != nil {
			s.log.Warn("network not whole in the kernel", "network", w.network.Name, "err", err)
		}
	}
	if err := s.unplugs.wait(ctx, lease.Addr.Addr()); err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { _ = s.overlay.Detach(clean, id.String()) }, func() { _ = s.journal.remove(id) })
	// The disk and the kernel work side by side. An agent that dies in between
	// leaves an interface that reap removes, or an endpoint that it mends.
	written := make(chan error, 1)
	go func() { written <- s.journal.put(l) }()
	err = s.overlay.Attach(ctx, s.link(w.network, l))
	if err = errors.Join(err, <-written); err != nil {
		return Local{}, err
	}
	undo = append(undo, func() { s.directory.Announce(nil, []discovery.EndpointID{id}); s.poke() })
	s.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
	if err := ignoreKernel(s.settle(ctx)); err != nil {
		return Local{}, err
	}
	return l, nil
}

// markBusy marks an endpoint whose interface may be there while the journal does
// not name it, until done is called: reap leaves it alone.
func (s *session) markBusy(id discovery.EndpointID) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attaching[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.attaching, id)
	}
}

// programmed reports whether a pass has made the network's devices. That the
// network is to be carried is not enough: two first endpoints may come at once.
func (s *session) programmed(id discovery.NetworkID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carried[id]
}

// newLocal describes the endpoint that a lease makes possible.
func (s *session) newLocal(w wantedEndpoint, id discovery.EndpointID, addr netip.Prefix, seq uint64) Local {
	l := Local{
		Endpoint: discovery.Endpoint{
			ID: id, Network: w.network.ID, MAC: w.mac, Seq: seq,
			Name: w.name, Aliases: w.aliases, Runtime: w.runtime,
		},
		Sandbox: w.sandbox, Cookie: w.cookie, Boot: s.machine.BootID(), Ifname: w.ifname, Container: w.container,
		Addrs: []netip.Prefix{addr}, NoDefault: w.noRoute || w.network.Internal, NoRoute: w.noRoute,
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
		l.Endpoint.MAC = endpointMAC(w.network.VNI, addr.Addr())
	}
	for _, o := range s.journal.all() {
		// One default route for each sandbox: the first network's.
		l.NoDefault = l.NoDefault || o.Cookie == w.cookie && !o.NoDefault
	}
	return l
}

// link is the interface of an endpoint, as the kernel side wants it.
func (s *session) link(n discovery.Network, l Local) overlay.Endpoint {
	ep := overlay.Endpoint{
		ID: l.Endpoint.ID.String(), VNI: n.VNI, Network: n.ID.String(), Cluster: s.cluster.ID,
		Sandbox: l.Sandbox, Ifname: l.Ifname, MAC: overlay.MAC(l.Endpoint.MAC), MTU: s.mtu(n), Addrs: l.Addrs,
	}
	if l.NoDefault {
		return ep
	}
	for _, sub := range n.Subnets {
		if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() == sub.Gateway.Is4() }) {
			ep.Gateways = append(ep.Gateways, sub.Gateway)
		}
	}
	return ep
}

// mtu is the network's, as the last plan has it.
func (s *session) mtu(n discovery.Network) int {
	p := planner{cfg: s.cfg, snap: s.snapshot(), members: map[discovery.HostID]discovery.Member{}}
	for _, m := range p.snap.Members {
		p.members[m.ID] = m
	}
	return p.mtu(n)
}

// attachment is the answer to attach.
func (s *session) attachment(n discovery.Network, l Local) api.Attachment {
	out := api.Attachment{
		ID: l.Endpoint.ID.String(), Name: l.Endpoint.Name, Network: n.Name,
		Address: l.Addrs[0].String(), MAC: l.Endpoint.MAC.String(), MTU: s.mtu(n), Interface: l.Ifname,
		Ports:  portTexts(l.Ports),
		Search: []string{n.Name + "." + s.cfg.Domain, s.cfg.Domain},
	}
	for _, sub := range n.Subnets {
		out.DNS = append(out.DNS, sub.Gateway.String())
		if out.Gateway == "" && !l.NoDefault {
			out.Gateway = sub.Gateway.String()
		}
	}
	return out
}

func subnets(n discovery.Network) string {
	var out []string
	for _, s := range n.Subnets {
		out = append(out, s.CIDR.String())
	}
	return strings.Join(out, ", ")
}
