package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
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
var askedRuntimes = []string{"docker"}

// Connect implements api.Service: the container's sandbox gets one more
// interface, under the name that it has already.
func (a *Agent) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	out, err := s.connect(ctx, r)
	return out, s.explain("network connect "+r.Network+" "+r.Container, err)
}

func (s *session) connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	if _, ok := s.network(r.Network); !ok {
		return api.Attachment{}, noNetwork(r.Network)
	}
	l, ask, err := s.container(r.Container)
	if err != nil {
		return api.Attachment{}, err
	}
	if ask != nil {
		r.Container = cmp.Or(l.Container, r.Container)
		out, err := ask.Connect(ctx, r)
		return out, unknownToRuntime(r.Container, err)
	}
	// A path may be a younger sandbox's by now.
	if cookie, err := s.overlay.Identify(ctx, l.Sandbox); err != nil || cookie != l.Cookie {
		return api.Attachment{}, api.Errorf(api.KindNotFound, "its sandbox %s is gone", l.Sandbox).WithHint("agentctl endpoint ls")
	}
	w, err := s.checkAttach(ctx, api.AttachRequest{
		Network: r.Network, Netns: l.Sandbox, Name: l.Endpoint.Name, Aliases: r.Aliases, IP: r.IP, MAC: r.MAC,
		Runtime: l.Endpoint.Runtime, Container: l.Container, Labels: l.Labels,
	})
	if err != nil {
		return api.Attachment{}, err
	}
	return s.attachOnce(ctx, w)
}

// Disconnect implements api.Service. The last network of a container may be
// taken from it, too.
func (a *Agent) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	s, err := a.requireMember()
	if err != nil {
		return err
	}
	return s.explain("network disconnect "+r.Network+" "+r.Container, s.disconnect(ctx, r))
}

func (s *session) disconnect(ctx context.Context, r api.DisconnectRequest) error {
	n, ok := s.network(r.Network)
	if !ok && r.Force && s.wasDeleted(r.Network) {
		return nil // its endpoints went with it
	}
	if !ok {
		return noNetwork(r.Network)
	}
	l, ask, err := s.container(r.Container)
	if err == nil && ask != nil {
		r.Container = cmp.Or(l.Container, r.Container)
		err = unknownToRuntime(r.Container, ask.Disconnect(ctx, r))
	} else if err == nil {
		err = s.disconnectLocal(ctx, n, l)
	}
	if r.Force && err != nil && api.KindOf(err) == api.KindNotFound {
		return nil
	}
	return err
}

// disconnectLocal takes the sandbox of an endpoint off a network.
func (s *session) disconnectLocal(ctx context.Context, n discovery.Network, l Local) error {
	on := slices.DeleteFunc(s.journal.all(), func(o Local) bool { return o.Cookie != l.Cookie || o.Endpoint.Network != n.ID })
	if len(on) == 0 {
		return api.Errorf(api.KindNotFound, "%s is not on that network", l.Endpoint.Name).WithHint("agentctl endpoint inspect %s", l.Endpoint.Name)
	}
	for _, o := range on {
		if err := s.takeOff(ctx, o.Endpoint.ID, false, "it was disconnected"); err != nil {
			return err
		}
	}
	return nil
}

// container finds what a user calls a container of this host: an endpoint's id
// or name, the runtime's id, or the beginning of an id. A runtime that has to
// be asked about it comes with it; the endpoint is then zero when the container
// is on none of our networks yet.
func (s *session) container(name string) (Local, connector, error) {
	own := slices.DeleteFunc(s.journal.all(), func(l Local) bool { return l.Endpoint.Runtime == runtimeHost })
	slices.SortStableFunc(own, func(a, b Local) int { return a.Created.Compare(b.Created) })
	found, err := oneSandbox(name, matching(own, strings.ToLower(name)))
	if err != nil {
		return Local{}, nil, err
	}
	if len(found) == 0 {
		for _, runtime := range askedRuntimes {
			if ask := s.connectors[runtime]; ask != nil && ask.Found() {
				return Local{}, ask, nil
			}
		}
		return Local{}, nil, s.noContainer(name)
	}
	l := found[0]
	if !slices.Contains(askedRuntimes, l.Endpoint.Runtime) {
		return l, nil, nil
	}
	ask := s.connectors[l.Endpoint.Runtime]
	if ask == nil {
		return Local{}, nil, api.Errorf(api.KindConflict, "%s is a container of %s, which this agent cannot ask", l.Endpoint.Name, l.Endpoint.Runtime).
			WithHint("%s network connect --help", l.Endpoint.Runtime)
	}
	return l, ask, nil
}

// matching returns the endpoints that a word means: by whole id, else by name,
// else by alias, else by the beginning of an id.
func matching(all []Local, word string) []Local {
	for _, means := range []func(Local) bool{
		func(l Local) bool { return l.Endpoint.ID.String() == word || strings.ToLower(l.Container) == word },
		func(l Local) bool { return l.Endpoint.Name == word },
		func(l Local) bool { return slices.Contains(l.Endpoint.Aliases, word) }, // what a runtime calls it may be no label
		func(l Local) bool {
			return strings.HasPrefix(l.Endpoint.ID.String(), word) || strings.HasPrefix(strings.ToLower(l.Container), word)
		},
	} {
		found := slices.DeleteFunc(slices.Clone(all), func(l Local) bool { return !means(l) })
		if len(found) > 0 && word != "" {
			return found
		}
	}
	return nil
}

// oneSandbox wants all that was found to be of one container.
func oneSandbox(name string, found []Local) ([]Local, error) {
	var hints []string
	for _, l := range found {
		hints = append(hints, fmt.Sprintf("agentctl endpoint inspect %s", l.Endpoint.ID))
		if l.Cookie != found[0].Cookie || l.Container != found[0].Container {
			return nil, api.Errorf(api.KindConflict, "more than one container of this host is %s", name).
				WithHint("%s", strings.Join(hints, "\n"))
		}
	}
	return found, nil
}

// noContainer says where a container is that is not on this host's networks.
func (s *session) noContainer(name string) error {
	for _, e := range s.endpoints() {
		if e.Host != s.host.Name && (e.ID == name || e.Name == strings.ToLower(name)) {
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
