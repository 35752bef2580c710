package endpoint

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// HostAddresses leases an address for this host itself on each network that the host
// may reach in full, whether it has endpoints of it or not, and frees it when the
// network is one no more. The gateway's address does not do: every host has it, so a
// reply to it could end at another host.
func (m *Manager) HostAddresses(ctx context.Context, networks []discovery.Network) {
	full := map[discovery.NetworkID]bool{}
	for _, n := range networks {
		full[n.ID] = n.State == discovery.NetworkUp && n.HostAccess() == discovery.HostAccessFull
	}
	have := map[discovery.NetworkID]bool{}
	for _, l := range m.Journal.All() {
		if !l.OfHost() {
			continue
		}
		if have[l.Endpoint.Network] = full[l.Endpoint.Network]; !have[l.Endpoint.Network] && m.Cluster.Usable() == nil {
			m.giveHostAddress(ctx, l)
		}
	}
	for _, n := range networks {
		if full[n.ID] && !have[n.ID] && m.hostless.due(n.ID, time.Now()) && m.Cluster.Usable() == nil {
			m.hostless.note(n, m.takeHostAddress(ctx, n), m.Log)
		}
	}
}

// hostless are the networks in which this host could get no address, when it tries
// again, and what was wrong. One goroutine uses it.
type hostless map[discovery.NetworkID]struct {
	next time.Time
	err  string
}

// retryAddress is the time between two tries: a full network stays full for a while.
const retryAddress = 10 * time.Second

func (h hostless) due(id discovery.NetworkID, now time.Time) bool { return !now.Before(h[id].next) }

// note keeps how a try went, and says what is new of it.
func (h hostless) note(n discovery.Network, err error, log *slog.Logger) {
	if err == nil {
		delete(h, n.ID)
		return
	}
	before := h[n.ID]
	if err.Error() != before.err {
		log.Warn("no address for this host: it reaches its own endpoints only", "network", n.Name, "err", err)
	}
	before.next, before.err = time.Now().Add(retryAddress), err.Error()
	h[n.ID] = before
}

func (p *parts) takeHostAddress(ctx context.Context, n discovery.Network) error {
	ctx, cancel := context.WithTimeout(ctx, retryAddress)
	defer cancel()
	var id discovery.EndpointID
	_, _ = rand.Read(id[:])
	lease, err := p.leases.Lease(ctx, n, id, netip.Addr{})
	if err != nil {
		return err
	}
	mac := plan.GatewayMAC(p.Host.ID, n.VNI)
	l := journal.Local{
		Endpoint: discovery.Endpoint{ID: id, Network: n.ID, IPv4: lease.Addr.Addr(), MAC: discovery.MAC(mac),
			Seq: lease.Seq, Name: p.Host.Name, Runtime: discovery.RuntimeHost},
		Addrs: []netip.Prefix{lease.Addr}, NoDefault: true, Created: time.Now().UTC(),
	}
	if err := p.Journal.Put(l); err != nil {
		_ = p.leases.Free(ctx, n.ID, id)
		return err
	}
	p.directory.Announce([]discovery.Endpoint{l.Announced()}, nil)
	p.Cluster.Poke()
	p.tell(ctx, event.EndpointAttached, l, "the host itself")
	return nil
}

func (p *parts) giveHostAddress(ctx context.Context, l journal.Local) {
	p.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	if err := p.Journal.Remove(l.Endpoint.ID); err != nil {
		p.Log.Warn("this host's address not given back", "endpoint", l.Endpoint.ID, "err", err)
		return
	}
	_ = p.leases.Free(ctx, l.Endpoint.Network, l.Endpoint.ID)
	p.Cluster.Poke()
	p.tell(ctx, event.EndpointDetached, l, "the host itself")
}
