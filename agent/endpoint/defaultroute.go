package endpoint

import (
	"cmp"
	"context"
	"slices"

	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// moveDefault gives the default route of a sandbox to another of its networks
// before the endpoint that has it goes: to the first by name, as Docker does.
// The caller holds the sandbox's lock. A failure leaves the sandbox without a
// default route and is logged: the endpoint goes all the same.
func (p *parts) moveDefault(ctx context.Context, going journal.Local) {
	if going.NoDefault || going.Cookie == 0 || p.Cluster.Usable() != nil {
		return
	}
	l, n, ok := p.nextDefault(going)
	if !ok {
		return
	}
	if cookie, err := p.Kernel.Identify(ctx, l.Sandbox); err != nil || cookie != l.Cookie {
		return // the whole sandbox is going
	}
	l.NoDefault = false
	err := p.Kernel.Attach(ctx, p.link(n, l))
	if err == nil {
		err = p.Journal.Put(l)
	}
	if err != nil {
		p.Log.Warn("sandbox is left without a default route", "endpoint", l.Endpoint.ID, "network", n.Name, "err", err)
		return
	}
	p.Log.Info("default route moved", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name, "network", n.Name)
}

// nextDefault is the endpoint of the same sandbox that takes over the default
// route; none when no other may have it, or one has it already.
func (p *parts) nextDefault(going journal.Local) (journal.Local, discovery.Network, bool) {
	type end struct {
		journal.Local
		network discovery.Network
	}
	var ends []end
	for _, l := range p.Journal.All() {
		if l.Cookie != going.Cookie || l.Endpoint.ID == going.Endpoint.ID || l.NoRoute {
			continue
		}
		if !l.NoDefault {
			return journal.Local{}, discovery.Network{}, false
		}
		n, ok := p.Cluster.Network(l.Endpoint.Network)
		if ok && !n.Internal && n.State != discovery.NetworkDeleting {
			ends = append(ends, end{l, n})
		}
	}
	if len(ends) == 0 {
		return journal.Local{}, discovery.Network{}, false
	}
	first := slices.MinFunc(ends, func(a, b end) int { return cmp.Compare(a.network.Name, b.network.Name) })
	return first.Local, first.network, true
}
