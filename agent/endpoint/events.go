package endpoint

import (
	"cmp"
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// askedBy says that a runtime asks, whoever runs its plugin.
func askedBy(ctx context.Context, runtime string) context.Context {
	if runtime == discovery.RuntimeNetns {
		return ctx
	}
	return api.WithCaller(ctx, runtime)
}

// tell emits what became of an endpoint, and why.
func (p *parts) tell(ctx context.Context, kind event.Kind, l journal.Local, why string) {
	name := l.Endpoint.Network.String()
	if n, ok := p.Cluster.Network(l.Endpoint.Network); ok {
		name = n.Name
	}
	e := event.Event{Kind: kind, Subject: l.Endpoint.Name, Network: name, Endpoint: l.Endpoint.ID.String(), By: api.Caller(ctx),
		Detail: map[string]any{"runtime": l.Endpoint.Runtime}}
	what := map[event.Kind]string{event.EndpointAttached: " attached to ", event.EndpointDetached: " detached from "}[kind]
	e.Text = cmp.Or(l.Endpoint.Name, e.Endpoint) + what + name
	if why != "" {
		e.Text += ": " + why
	}
	for key, v := range map[string]string{"container": l.Container, "mac": l.Endpoint.MAC.String()} {
		if v != "" {
			e.Detail[key] = v
		}
	}
	for _, a := range l.Endpoint.Addrs() {
		e.Addr = a.String()
		p.Events.Emit(e)
	}
}
