package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// publish makes ports of this host lead to an endpoint of it, these and no
// others, and returns what was chosen when clients are served. What the endpoint
// has already stays open; a failure changes nothing. It takes the sandbox's lock.
func (s *session) publish(ctx context.Context, id discovery.EndpointID, want []hostport.Spec) ([]overlay.Publish, error) {
	l, unlock, ok := s.lockLocal(id)
	if !ok {
		return nil, api.Errorf(api.KindNotFound, "no endpoint %s on this host", id).WithHint("agentctl endpoint ls")
	}
	defer unlock()
	n, ok := s.network(l.Endpoint.Network.String())
	if !ok {
		return nil, noNetwork(l.Endpoint.Network.String())
	}
	before := l.Ports
	ports, err := s.reserve(n, l, want)
	if err != nil {
		return nil, err
	}
	l.Ports = ports
	if err := s.journal.put(l); err != nil {
		s.ports.Release(id, without(ports, before))
		return nil, err
	}
	err = ignoreKernel(s.settle(ctx))
	s.ports.Release(id, without(before, ports))
	return ports, err
}

// unpublish takes all ports from an endpoint; one that is gone has none.
func (s *session) unpublish(ctx context.Context, id discovery.EndpointID) error {
	if l, ok := s.journal.get(id); !ok || len(l.Ports) == 0 {
		return nil
	}
	_, err := s.publish(ctx, id, nil)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Kind == api.KindNotFound {
		return nil
	}
	return err
}

// reserve takes the ports for an endpoint, if its network lets anybody reach it.
func (s *session) reserve(n discovery.Network, l Local, want []hostport.Spec) ([]overlay.Publish, error) {
	if len(want) == 0 {
		return nil, nil
	}
	i := slices.IndexFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() })
	switch {
	case n.Internal:
		return nil, api.Errorf(api.KindConflict, "network %s is internal: nobody outside reaches it", n.Name).
			WithHint("agentctl network create NAME # without --internal")
	case i < 0:
		return nil, api.Errorf(api.KindConflict, "%s has no IPv4 address to publish ports of", l.Endpoint.Name).
			WithHint("agentctl network inspect %s", n.Name)
	}
	ports, err := s.ports.Reserve(hostport.Request{Owner: l.Endpoint.ID, To: l.Addrs[i].Addr(), Want: want, Have: l.Ports, OwnSockets: l.holdsOwnPorts()})
	if e, ok := errors.AsType[*hostport.TakenError](err); ok {
		return nil, s.explainPort(l.Endpoint.ID, e)
	}
	return ports, err
}

// reclaimPorts takes the ports that this host's endpoints had when the last agent
// ended.
func (s *session) reclaimPorts() {
	var all []hostport.Published
	for _, l := range s.journal.all() {
		all = append(all, hostport.Published{Owner: l.Endpoint.ID, Ports: l.Ports, OwnSockets: l.holdsOwnPorts()})
	}
	s.ports.Reclaim(all)
}

// heirOfPorts is another endpoint of a sandbox, which may be reached, with the
// ports of the one that goes; none when that has no ports or is the last.
func (s *session) heirOfPorts(l Local) []Local {
	if len(l.Ports) == 0 {
		return nil
	}
	for _, o := range s.journal.all() {
		n, ok := s.network(o.Endpoint.Network.String())
		if !ok || n.Internal || o.Cookie != l.Cookie || o.Endpoint.ID == l.Endpoint.ID || o.ofHost() || o.Docker != nil || !o.Endpoint.IPv4.IsValid() {
			continue
		}
		o.Ports = slices.Clone(o.Ports)
		for _, p := range l.Ports {
			p.Addr = o.Endpoint.IPv4
			o.Ports = append(o.Ports, p)
		}
		slices.SortFunc(o.Ports, overlay.Publish.Compare)
		return []Local{o}
	}
	return nil
}

// holdsOwnPorts reports whether the endpoint's runtime has a socket on each port
// that it publishes.
func (l Local) holdsOwnPorts() bool { return l.Endpoint.Runtime == "podman" }

// explainPort names the endpoint that has a port which owner wants, and what shows
// the program.
func (s *session) explainPort(owner discovery.EndpointID, e *hostport.TakenError) error {
	if e.Endpoint == owner {
		return api.Errorf(api.KindMisuse, "%s is asked for twice", e.Port).WithHint("agentctl attach --help # each -p a port of this host of its own")
	}
	if holder, ok := s.journal.get(e.Endpoint); ok {
		return api.Errorf(api.KindConflict, "%s is taken by endpoint %s (%s)", e.Port, holder.Endpoint.Name, e.Endpoint).
			WithHint("agentctl endpoint inspect %s", e.Endpoint)
	}
	return api.Errorf(api.KindConflict, "%v", e).WithHint("ss -lntup 'sport = :%d'", e.Port.Number)
}

// publishes reports whether the sandbox has published ports on another network.
func (s *session) publishes(w wantedEndpoint) bool {
	return slices.ContainsFunc(s.journal.all(), func(l Local) bool {
		return l.Cookie == w.cookie && l.Endpoint.Network != w.network.ID && len(l.Ports) > 0
	})
}

// samePorts says how the ports of an attached endpoint differ from those asked
// for.
func samePorts(l Local, network string, want []hostport.Spec) error {
	left := slices.Clone(l.Ports)
	for _, w := range want {
		i := slices.IndexFunc(left, w.Met)
		if i < 0 {
			return api.Errorf(api.KindConflict, "the sandbox is on it already, with other ports: %s",
				cmp.Or(strings.Join(portTexts(l.Ports), ", "), "none")).WithHint("agentctl detach %s %s", network, l.Endpoint.Name)
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// without are the ports of a that b lacks.
func without(a, b []overlay.Publish) []overlay.Publish {
	return slices.DeleteFunc(slices.Clone(a), func(p overlay.Publish) bool { return slices.Contains(b, p) })
}

func portTexts(ports []overlay.Publish) (texts []string) {
	for _, p := range ports {
		texts = append(texts, p.String())
	}
	return texts
}

// checkPorts says which published ports another program holds.
func (s *session) checkPorts() api.Check {
	held, lost := s.ports.Problems()
	c := api.Check{Name: "ports", State: api.CheckOK, Detail: fmt.Sprintf("%d published here", held)}
	if len(lost) > 0 {
		c.State = api.CheckWarn
		c.Detail = fmt.Sprintf("%d published here, of which others listen on %d: %s", held+len(lost), len(lost), strings.Join(lost, "; "))
		c.Hint = "ss -lntup # and stop that program: clients reach the endpoint, never it"
	}
	return c
}
