package endpoint

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Connector asks a runtime to connect its containers, since that runtime makes
// their interfaces itself. For a container that the runtime does not know the error
// is api.KindNotFound.
type Connector interface {
	Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error)
	Disconnect(ctx context.Context, r api.DisconnectRequest) error
	// Found reports whether the runtime is there to be asked.
	Found() bool
}

// askedRuntimes are the runtimes that make their containers' interfaces themselves.
var askedRuntimes = []string{discovery.RuntimeDocker}

// Connect gives a container's sandbox one more interface, under the name that it has
// already. runtimes are those that can be asked, by name.
func (m *Manager) Connect(ctx context.Context, runtimes map[string]Connector, r api.ConnectRequest) (api.Attachment, error) {
	l, ask, err := m.container(runtimes, r.Container)
	if err != nil {
		return api.Attachment{}, err
	}
	if ask != nil {
		r.Container = cmp.Or(l.Container, r.Container)
		out, err := ask.Connect(ctx, r)
		return out, unknownToRuntime(r.Container, err)
	}
	// A path may be a younger sandbox's by now.
	if cookie, err := m.Kernel.Identify(ctx, l.Sandbox); err != nil || cookie != l.Cookie {
		return api.Attachment{}, api.Errorf(api.KindNotFound, "its sandbox %s is gone", l.Sandbox).WithHint("agentctl endpoint ls")
	}
	w, err := m.Check(ctx, api.AttachRequest{
		Network: r.Network, Netns: l.Sandbox, Name: l.Endpoint.Name, Aliases: r.Aliases, IP: r.IP, MAC: r.MAC,
		Runtime: l.Endpoint.Runtime, Container: l.Container, Labels: l.Labels,
	})
	if err != nil {
		return api.Attachment{}, err
	}
	return m.attachOnce(ctx, w)
}

// Disconnect takes a container's sandbox off a network. With r.Force one that is not
// there, or not on the network, is no error.
func (m *Manager) Disconnect(ctx context.Context, n discovery.NetworkID, runtimes map[string]Connector, r api.DisconnectRequest) error {
	l, ask, err := m.container(runtimes, r.Container)
	if err == nil && ask != nil {
		r.Container = cmp.Or(l.Container, r.Container)
		err = unknownToRuntime(r.Container, ask.Disconnect(ctx, r))
	} else if err == nil {
		err = m.detachSandbox(ctx, n, l)
	}
	if r.Force && err != nil && api.KindOf(err) == api.KindNotFound {
		return nil
	}
	return err
}

// detachSandbox takes the sandbox of an endpoint off a network. It waits until the
// interface is gone: whoever types the command looks next.
func (m *Manager) detachSandbox(ctx context.Context, n discovery.NetworkID, l journal.Local) error {
	on := slices.DeleteFunc(m.Journal.All(), func(o journal.Local) bool { return o.Cookie != l.Cookie || o.Endpoint.Network != n })
	if len(on) == 0 {
		return api.Errorf(api.KindNotFound, "%s is not on that network", l.Endpoint.Name).WithHint("agentctl endpoint inspect %s", l.Endpoint.Name)
	}
	for _, o := range on {
		if err := m.detachByID(ctx, o.Endpoint.ID, true, "it was disconnected"); err != nil {
			return err
		}
	}
	return nil
}

// container finds what a user calls a container of this host. A runtime that has to
// be asked about it comes with it; the endpoint is then zero when the container is on
// none of our networks yet.
func (m *Manager) container(runtimes map[string]Connector, name string) (journal.Local, Connector, error) {
	l, found, err := m.oneSandbox(name)
	if err != nil {
		return journal.Local{}, nil, err
	}
	if !found {
		for _, runtime := range askedRuntimes {
			if ask := runtimes[runtime]; ask != nil && ask.Found() {
				return journal.Local{}, ask, nil
			}
		}
		return journal.Local{}, nil, noContainer(m.directory.View(), name)
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
func noContainer(v discovery.View, name string) error {
	others := slices.DeleteFunc(slices.Clone(v.Endpoints), func(r discovery.Record) bool { return r.Host == v.Self })
	if found := discovery.FindAll(others, name, recordKeys); len(found) > 0 {
		host := v.MemberName(found[0].Host)
		return api.Errorf(api.KindConflict, "it is on host %s", host).WithHint("agentctl ps # on %s", host)
	}
	return notHere(name)
}

func notHere(name string) *api.Error {
	return api.Errorf(api.KindNotFound, "no container %s on the networks of this host", name).
		WithHint("agentctl ps\nagentctl network connect --help # says what a CONTAINER may be")
}

// unknownToRuntime replaces a runtime's error that it does not know a container by
// weft's own. An error with a hint stays: then the runtime knows the container.
func unknownToRuntime(name string, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Kind == api.KindNotFound && e.Hint == "" {
		return notHere(name)
	}
	return err
}
