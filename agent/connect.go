package agent

import (
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/discovery"
)

// runtimes are those that this host can ask for their containers, by name.
func (a *Agent) runtimes(m *member) map[string]endpoint.Connector {
	if a.docker == nil {
		return nil
	}
	return map[string]endpoint.Connector{discovery.RuntimeDocker: dockerConnector{m.book, a.docker}}
}

// dockerConnector asks the engine.
type dockerConnector struct {
	book   *book.Book
	engine Docker
}

// Connect implements endpoint.Connector.
func (c dockerConnector) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	return c.book.Connect(ctx, c.engine, r)
}

// Disconnect implements endpoint.Connector.
func (c dockerConnector) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	return c.book.Disconnect(ctx, c.engine, r)
}

// Found implements endpoint.Connector. An engine that hangs is asked all the same,
// and says so: it may have the container.
func (c dockerConnector) Found() bool {
	version, _ := c.engine.Engine()
	return version != ""
}

// Connect implements api.Service: the container's sandbox gets one more
// interface, under the name that it has already.
func (a service) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	what := "network connect " + r.Network + " " + r.Container
	if _, ok := m.networks.Lookup(r.Network); !ok {
		return api.Attachment{}, m.explain(what, api.NoNetwork(r.Network))
	}
	out, err := m.endpoints.Connect(ctx, a.runtimes(m), r)
	return out, m.explain(what, err)
}

// Disconnect implements api.Service. The last network of a container may be
// taken from it, too.
func (a service) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	m, err := a.requireMember()
	if err != nil {
		return err
	}
	what := "network disconnect " + r.Network + " " + r.Container
	n, ok := m.networks.Lookup(r.Network)
	switch {
	case !ok && r.Force && m.networks.WasDeleted(r.Network):
		return nil // its endpoints went with it
	case !ok:
		return m.explain(what, api.NoNetwork(r.Network))
	}
	return m.explain(what, m.endpoints.Disconnect(ctx, n.ID, a.runtimes(m), r))
}
