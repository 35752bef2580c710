package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// connector connects the containers of a runtime that makes their interfaces
// itself, and so has to be asked. One that it does not know is
// api.KindNotFound.
type connector interface {
	Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error)
	Disconnect(ctx context.Context, r api.DisconnectRequest) error
	// Found reports whether the runtime is there to be asked.
	Found() bool
}

// askedRuntimes are those runtimes.
var askedRuntimes = []string{discovery.RuntimeDocker}

// connectors are the runtimes that this host can ask, by name.
func (a *Agent) connectors(m *member) map[string]connector {
	if a.docker == nil {
		return nil
	}
	return map[string]connector{discovery.RuntimeDocker: dockerConnector{m.book, a.docker}}
}

// dockerConnector asks the engine.
type dockerConnector struct {
	book   *book.Book
	engine Docker
}

// Connect implements connector.
func (c dockerConnector) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	return c.book.Connect(ctx, c.engine, r)
}

// Disconnect implements connector.
func (c dockerConnector) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	return c.book.Disconnect(ctx, c.engine, r)
}

// Found implements connector. An engine that hangs is asked all the same, and says
// so: it may have the container.
func (c dockerConnector) Found() bool {
	version, _ := c.engine.Engine()
	return version != ""
}

// Connect implements api.Service: the container's sandbox gets one more
// interface, under the name that it has already.
func (a *Agent) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	out, err := m.connect(ctx, a.connectors(m), r)
	return out, m.explain("network connect "+r.Network+" "+r.Container, err)
}

func (m *member) connect(ctx context.Context, runtimes map[string]connector, r api.ConnectRequest) (api.Attachment, error) {
	if _, ok := m.networks.Lookup(r.Network); !ok {
		return api.Attachment{}, api.NoNetwork(r.Network)
	}
	l, ask, err := m.container(runtimes, r.Container)
	if err != nil {
		return api.Attachment{}, err
	}
	if ask == nil {
		return m.endpoints.Connect(ctx, l, r)
	}
	r.Container = cmp.Or(l.Container, r.Container)
	out, err := ask.Connect(ctx, r)
	return out, unknownToRuntime(r.Container, err)
}

// Disconnect implements api.Service. The last network of a container may be
// taken from it, too.
func (a *Agent) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	m, err := a.requireMember()
	if err != nil {
		return err
	}
	return m.explain("network disconnect "+r.Network+" "+r.Container, m.disconnect(ctx, a.connectors(m), r))
}

func (m *member) disconnect(ctx context.Context, runtimes map[string]connector, r api.DisconnectRequest) error {
	n, ok := m.networks.Lookup(r.Network)
	if !ok && r.Force && m.networks.WasDeleted(r.Network) {
		return nil // its endpoints went with it
	}
	if !ok {
		return api.NoNetwork(r.Network)
	}
	l, ask, err := m.container(runtimes, r.Container)
	if err == nil && ask != nil {
		r.Container = cmp.Or(l.Container, r.Container)
		err = unknownToRuntime(r.Container, ask.Disconnect(ctx, r))
	} else if err == nil {
		err = m.endpoints.Disconnect(ctx, n.ID, l)
	}
	if r.Force && err != nil && api.KindOf(err) == api.KindNotFound {
		return nil
	}
	return err
}

// container finds what a user calls a container of this host. A runtime that has to
// be asked about it comes with it; the endpoint is then zero when the container is on
// none of our networks yet.
func (m *member) container(runtimes map[string]connector, name string) (journal.Local, connector, error) {
	l, found, err := m.endpoints.Container(name)
	if err != nil {
		return journal.Local{}, nil, err
	}
	if !found {
		for _, runtime := range askedRuntimes {
			if ask := runtimes[runtime]; ask != nil && ask.Found() {
				return journal.Local{}, ask, nil
			}
		}
		return journal.Local{}, nil, m.noContainer(name)
	}
	if !slices.Contains(askedRuntimes, l.Endpoint.Runtime) {
		return l, nil, nil
	}
	ask := runtimes[l.Endpoint.Runtime]
	if ask == nil {
		return journal.Local{}, nil, api.Errorf(api.KindConflict, "%s is a container of %s, which this agent cannot ask", l.Endpoint.Name, l.Endpoint.Runtime).
			WithHint("%s network connect --help", l.Endpoint.Runtime)
	}
	return l, ask, nil
}

// noContainer says where a container is that is not on this host's networks.
func (m *member) noContainer(name string) error {
	for _, e := range m.endpointRows() {
		if !e.Local && (e.ID == name || e.Name == strings.ToLower(name)) {
			return api.Errorf(api.KindConflict, "it is on host %s", e.Host).WithHint("agentctl ps # on %s", e.Host)
		}
	}
	return notHere(name)
}

func notHere(name string) *api.Error {
	return api.Errorf(api.KindNotFound, "no container %s on the networks of this host", name).
		WithHint("agentctl ps\nagentctl network connect --help # says what a CONTAINER may be")
}

// unknownToRuntime gives the not-found of a runtime the words of everybody's,
// unless the runtime has a hint: then it knows the container.
func unknownToRuntime(name string, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Kind == api.KindNotFound && e.Hint == "" {
		return notHere(name)
	}
	return err
}
