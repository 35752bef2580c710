package endpoint

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// publisher makes ports of this host lead to its endpoints.
type publisher struct{ *parts }

// Publish makes ports of this host lead to an endpoint of it, these and no others.
// What the endpoint has already stays open; a failure changes nothing. It takes the
// sandbox's lock.
func (m *Manager) Publish(ctx context.Context, id discovery.EndpointID, want []hostport.Spec) error {
	return m.ports.publish(ctx, id, want)
}

// Unpublish takes all ports from an endpoint; one that is gone has none.
func (m *Manager) Unpublish(ctx context.Context, id discovery.EndpointID) error {
	if l, ok := m.Journal.Get(id); !ok || len(l.Ports) == 0 {
		return nil
	}
	err := m.ports.publish(ctx, id, nil)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Kind == api.KindNotFound {
		return nil
	}
	return err
}

func (p *publisher) publish(ctx context.Context, id discovery.EndpointID, want []hostport.Spec) error {
	l, unlock, ok, err := p.lockLocal(ctx, id)
	if err != nil {
		return err
	}
	if !ok {
		return api.Errorf(api.KindNotFound, "no endpoint %s on this host", id).WithHint("agentctl endpoint ls")
	}
	defer unlock()
	n, ok := p.Cluster.Network(l.Endpoint.Network)
	if !ok {
		return api.NoNetwork(l.Endpoint.Network.String())
	}
	before := l.Ports
	ports, err := p.reserve(n, l, want)
	if err != nil {
		return err
	}
	l.Ports = ports
	if err := p.Journal.Put(l); err != nil {
		p.Ports.Release(id, without(ports, before))
		return err
	}
	p.announceAgain(l)
	err = ignoreKernel(p.Cluster.Settle(ctx))
	p.Ports.Release(id, without(before, ports))
	return err
}

// announceAgain tells the members what has changed of an endpoint that they know.
func (p *parts) announceAgain(l journal.Local) {
	if l.Docker == nil || l.Docker.SandboxKey != "" {
		p.directory.Announce([]discovery.Endpoint{l.Announced()}, nil)
	}
}

// reserve takes the ports for an endpoint, if its network lets anybody reach it.
func (p *publisher) reserve(n discovery.Network, l journal.Local, want []hostport.Spec) ([]overlay.Publish, error) {
	if len(want) == 0 {
		return nil, nil
	}
	i := slices.IndexFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr().Is4() })
	switch {
	case n.Internal:
		return nil, api.Errorf(api.KindConflict, "network %s is internal: nobody outside reaches it", n.Name).
			WithHint("agentctl network create NAME # without --internal")
	case i < 0:
		return nil, api.Errorf(api.KindConflict, "%s has no IPv4 address to publish ports of", l.Endpoint.Name).
			WithHint("agentctl network inspect %s", n.Name)
	}
	ports, err := p.Ports.Reserve(hostport.Request{Owner: l.Endpoint.ID, To: l.Addrs[i].Addr(), Want: want, Have: l.Ports, OwnSockets: l.OwnSockets()})
	if e, ok := errors.AsType[*hostport.TakenError](err); ok {
		return nil, p.explain(l.Endpoint.ID, e)
	}
	return ports, err
}

// reclaim takes the ports that this host's endpoints had when the last agent
// ended.
func (p *publisher) reclaim() {
	var all []hostport.Published
	for _, l := range p.Journal.All() {
		all = append(all, hostport.Published{Owner: l.Endpoint.ID, Ports: l.Ports, OwnSockets: l.OwnSockets()})
	}
	p.Ports.Reclaim(all)
}

// successor is another endpoint of a sandbox, which may be reached, with the
// ports of the one that goes; none when that has no ports or is the last.
func (p *publisher) successor(l journal.Local) []journal.Local {
	if len(l.Ports) == 0 {
		return nil
	}
	for _, o := range p.Journal.All() {
		n, ok := p.Cluster.Network(o.Endpoint.Network)
		if !ok || n.Internal || o.Cookie != l.Cookie || o.Endpoint.ID == l.Endpoint.ID || o.OfHost() || o.Docker != nil || !o.Endpoint.IPv4.IsValid() {
			continue
		}
		o.Ports = slices.Clone(o.Ports)
		for _, port := range l.Ports {
			port.Addr = o.Endpoint.IPv4
			o.Ports = append(o.Ports, port)
		}
		slices.SortFunc(o.Ports, overlay.Publish.Compare)
		return []journal.Local{o}
	}
	return nil
}

// explain makes the error about a port that owner wants and does not get. It names
// the endpoint that has the port, or the command that shows which program has it.
func (p *publisher) explain(owner discovery.EndpointID, e *hostport.TakenError) error {
	if e.Endpoint == owner {
		return api.Errorf(api.KindMisuse, "%s is asked for twice", e.Port).WithHint("agentctl attach --help # each -p a port of this host of its own")
	}
	if holder, ok := p.Journal.Get(e.Endpoint); ok {
		return api.Errorf(api.KindConflict, "%s is taken by endpoint %s (%s)", e.Port, holder.Endpoint.Name, e.Endpoint).
			WithHint("agentctl endpoint inspect %s", e.Endpoint)
	}
	return api.Errorf(api.KindConflict, "%v", e).WithHint("ss -lntup 'sport = :%d'", e.Port.Number)
}

// elsewhere reports whether the sandbox has published ports on another network.
func (p *publisher) elsewhere(w Wanted) bool {
	return slices.ContainsFunc(p.Journal.All(), func(l journal.Local) bool {
		return l.Cookie == w.cookie && l.Endpoint.Network != w.Network.ID && len(l.Ports) > 0
	})
}

// samePorts says how the ports of an attached endpoint differ from those asked
// for.
func samePorts(l journal.Local, network string, want []hostport.Spec) error {
	left := slices.Clone(l.Ports)
	for _, w := range want {
		i := slices.IndexFunc(left, w.Met)
		if i < 0 {
			return api.Errorf(api.KindConflict, "the sandbox is on it already, with other ports: %s",
				cmp.Or(strings.Join(PortTexts(l.Ports), ", "), "none")).WithHint("agentctl detach %s %s", network, l.Endpoint.Name)
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// without are the ports of a that b lacks.
func without(a, b []overlay.Publish) []overlay.Publish {
	return slices.DeleteFunc(slices.Clone(a), func(p overlay.Publish) bool { return slices.Contains(b, p) })
}

// PortTexts writes ports as they were asked for.
func PortTexts(ports []overlay.Publish) (texts []string) {
	for _, p := range ports {
		texts = append(texts, p.String())
	}
	return texts
}
