package endpoint

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// HostAddresses leases an address for this host itself on each active network that
// the host may reach in full, and frees it when the network is not active any more.
// The gateway's address does not do: every host has it, so a reply to it could end
// at another host.
func (m *Manager) HostAddresses(ctx context.Context, networks []discovery.Network) {
	if m.Cluster.Usable() != nil {
		return
	}
	active := m.Active()
	have := map[discovery.NetworkID]bool{}
	for _, l := range m.Journal.All() {
		if !l.OfHost() {
			continue
		}
		if have[l.Endpoint.Network] = active[l.Endpoint.Network]; !have[l.Endpoint.Network] {
			m.giveHostAddress(ctx, l)
		}
	}
	for _, n := range networks {
		if n.State == discovery.NetworkUp && n.HostAccess() == discovery.HostAccessFull && active[n.ID] && !have[n.ID] {
			m.takeHostAddress(ctx, n)
		}
	}
}

func (p *parts) takeHostAddress(ctx context.Context, n discovery.Network) {
	var id discovery.EndpointID
	_, _ = rand.Read(id[:])
	lease, err := p.leases.Lease(ctx, n, id, netip.Addr{})
	if err != nil {
		p.Log.Warn("no address for this host: it reaches its own endpoints only", "network", n.Name, "err", err)
		return
	}
	mac := plan.GatewayMAC(p.Host.ID, n.VNI)
	l := journal.Local{
		Endpoint: discovery.Endpoint{ID: id, Network: n.ID, IPv4: lease.Addr.Addr(), MAC: discovery.MAC(mac),
			Seq: lease.Seq, Name: p.Host.Name, Runtime: discovery.RuntimeHost},
		Addrs: []netip.Prefix{lease.Addr}, NoDefault: true, Created: time.Now().UTC(),
	}
	if err := p.Journal.Put(l); err != nil {
		p.Log.Warn("this host's address not kept", "network", n.Name, "err", err)
		_ = p.leases.Free(ctx, n.ID, id)
		return
	}
	p.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
	p.Cluster.Poke()
}

func (p *parts) giveHostAddress(ctx context.Context, l journal.Local) {
	p.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	if err := p.Journal.Remove(l.Endpoint.ID); err != nil {
		p.Log.Warn("this host's address not given back", "endpoint", l.Endpoint.ID, "err", err)
		return
	}
	_ = p.leases.Free(ctx, l.Endpoint.Network, l.Endpoint.ID)
	p.Cluster.Poke()
}
