package agent

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// runtimeHost marks the endpoint that is the host itself on a network with
// host_access=full.
const runtimeHost = "host"

// hostAddresses leases one address for this host on each network that it
// carries and may reach in full, and gives it back when it carries it no more:
// a reply to the anycast gateway address would end at another host.
func (s *session) hostAddresses(ctx context.Context) {
	if s.isLeaving() || s.forgottenBy() != "" {
		return
	}
	carried := s.ownState().Carried
	have := map[discovery.NetworkID]bool{}
	for _, l := range s.journal.all() {
		if l.Endpoint.Runtime != runtimeHost {
			continue
		}
		if have[l.Endpoint.Network] = carried[l.Endpoint.Network]; !have[l.Endpoint.Network] {
			s.giveHostAddress(ctx, l)
		}
	}
	for _, n := range s.networkList() {
		if n.State == discovery.NetworkUp && n.HostAccess() == discovery.HostAccessFull && carried[n.ID] && !have[n.ID] {
			s.takeHostAddress(ctx, n)
		}
	}
}

func (s *session) takeHostAddress(ctx context.Context, n discovery.Network) {
	var id discovery.EndpointID
	_, _ = rand.Read(id[:])
	lease, err := s.leases.Lease(ctx, n, id, netip.Addr{})
	if err != nil {
		s.log.Warn("no address for this host: it reaches its own endpoints only", "network", n.Name, "err", err)
		return
	}
	mac := gatewayMAC(s.host.ID, n.VNI)
	l := Local{
		Endpoint: discovery.Endpoint{ID: id, Network: n.ID, IPv4: lease.Addr.Addr(), MAC: discovery.MAC(mac),
			Seq: lease.Seq, Name: s.host.Name, Runtime: runtimeHost},
		Addrs: []netip.Prefix{lease.Addr}, NoDefault: true, Created: time.Now().UTC(),
	}
	if err := s.journal.put(l); err != nil {
		s.log.Warn("this host's address not kept", "network", n.Name, "err", err)
		_ = s.leases.Free(ctx, n.ID, id)
		return
	}
	s.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
	s.poke()
}

func (s *session) giveHostAddress(ctx context.Context, l Local) {
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	if err := s.journal.remove(l.Endpoint.ID); err != nil {
		s.log.Warn("this host's address not given back", "endpoint", l.Endpoint.ID, "err", err)
		return
	}
	_ = s.leases.Free(ctx, l.Endpoint.Network, l.Endpoint.ID)
	s.poke()
}
