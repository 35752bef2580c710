package agent

import (
	"cmp"
	"context"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// moveDefault gives the default route of a sandbox to another of its networks
// before the endpoint that has it goes: to the first by name, as Docker does.
// The caller holds the sandbox's lock. A failure leaves the sandbox without a
// default route and is logged: the endpoint goes all the same.
func (s *session) moveDefault(ctx context.Context, going Local) {
	if going.NoDefault || going.Cookie == 0 || s.isLeaving() {
		return
	}
	l, n, ok := s.nextDefault(going)
	if !ok {
		return
	}
	if cookie, err := s.overlay.Identify(ctx, l.Sandbox); err != nil || cookie != l.Cookie {
		return // the whole sandbox is going
	}
	l.NoDefault = false
	err := s.overlay.Attach(ctx, s.link(n, l))
	if err == nil {
		err = s.journal.put(l)
	}
	if err != nil {
		s.log.Warn("sandbox is left without a default route", "endpoint", l.Endpoint.ID, "network", n.Name, "err", err)
		return
	}
	s.log.Info("default route moved", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name, "network", n.Name)
}

// nextDefault is the endpoint of the same sandbox that takes over the default
// route; none when no other may have it, or one has it already.
func (s *session) nextDefault(going Local) (Local, discovery.Network, bool) {
	type end struct {
		Local
		network discovery.Network
	}
	var ends []end
	for _, l := range s.journal.all() {
		if l.Cookie != going.Cookie || l.Endpoint.ID == going.Endpoint.ID || l.NoRoute {
			continue
		}
		if !l.NoDefault {
			return Local{}, discovery.Network{}, false
		}
		n, ok := s.network(l.Endpoint.Network.String())
		if ok && !n.Internal && n.State != discovery.NetworkDeleting {
			ends = append(ends, end{l, n})
		}
	}
	if len(ends) == 0 {
		return Local{}, discovery.Network{}, false
	}
	first := slices.MinFunc(ends, func(a, b end) int { return cmp.Compare(a.network.Name, b.network.Name) })
	return first.Local, first.network, true
}
