package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/conflist"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker/book"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
)

// member is this host's membership in one cluster, assembled: the parts that exist
// only while it is a member. Each owns its facts; here they only meet.
type member struct {
	cfg config.Config // with what the cluster fixed for all hosts
	log *slog.Logger
	*tasks
	*loop

	machine   machine
	overlay   Overlay
	names     Names
	pool      Pool
	store     EmbeddedStore // nil with Consul
	directory Directory
	leases    Leases
	disks     disks

	host      *membership.Membership
	networks  *networks.Registry
	deletions *networks.Deletions
	endpoints *endpoint.Manager
	resolvers *resolvers.Resolvers
	tunnel    *tunnel.Tunnel
	conflists *conflist.Dir
	book      *book.Book
}

// run begins all tasks of a member that is on the disk.
func (m *member) run() {
	m.runDirectory()
	m.runTunnel()
	m.runLoop()
	// What a host that was taken out holds belongs to others by now, or to the
	// host it is a copy of: it gives nothing back and claims nothing.
	if m.host.ForgottenBy() == "" {
		m.start("leases", func(context.Context) error { return m.leases.Run(m.leasing) })
	}
	m.start("overlay", m.overlay.Run)
	m.start("networks", func(ctx context.Context) error { return m.networks.Run(ctx, m.host.Gone) })
	m.start("endpoints", m.endpoints.Run)
	m.start("inspections", m.endpoints.Inspections.Run)
	m.start("disputes", m.disputes.Run)
	m.start("clones", m.host.Clones.Watch)
	m.start("hosts", func(ctx context.Context) error { return m.host.Run(ctx, m.Poke, m.networks.NoteLost) })
	m.start("housekeeping", m.housekeep)
	m.start("conflists", m.keepConflists)
}

// Some tasks begin earlier, while the host becomes a member.

// keepStore serves the embedded store, and tries again when its file cannot be used: a
// member without a store goes on.
func (m *member) keepStore(ctx context.Context) error {
	for said := ""; ; {
		err := m.store.Run(ctx)
		if err == nil {
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			m.log.Error("the embedded store cannot be served: what is attached goes on", "err", err)
		}
		if !pace.Sleep(ctx, storeAgain) {
			return nil
		}
	}
}

const storeAgain = 5 * time.Second

func (m *member) runDirectory() { m.start("gossip", m.directory.Run) }
func (m *member) runTunnel()    { m.start("tunnel", m.tunnel.Run) }
func (m *member) runLoop()      { m.start("loop", m.loop.run) }

// stop ends the membership's tasks and closes what was opened. Nothing is torn
// down: the kernel goes on with what it has.
func (m *member) stop() {
	m.halt()
	m.close()
}

// halt ends the tasks.
func (m *member) halt() {
	m.cancel()
	if m.directory != nil {
		m.runDirectory() // with an ended context: it closes its sockets
	}
	if err := m.tasks.wait(); err != nil {
		m.log.Error("a task of this member failed", "err", err)
	}
	m.endpoints.Close()
}

func (m *member) close() {
	m.disks.close(m.log)
	if m.overlay != nil {
		_ = m.overlay.Close()
	}
}

// abandon undoes what a membership did that was not completed, as after an init or
// join that failed, and closes it.
func (m *member) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if m.started("gossip") {
		// Members that got to know this host must not wait for it.
		if err := m.directory.Leave(ctx); err != nil {
			m.log.Warn("the members were not told", "err", err)
		}
	}
	m.halt()
	if err := m.overlay.Clean(ctx); err != nil {
		m.log.Warn("the kernel is not as before", "err", err)
	}
	m.close()
}

// end takes all that is this membership's out of the kernel and the DNS server,
// and closes what was opened.
func (m *member) end(ctx context.Context) error {
	m.halt()
	m.names.Set(dns.Zone{Domain: m.cfg.Domain})
	m.conflists.Set(nil, true)
	err := m.overlay.Clean(ctx)
	m.close()
	return err
}

// describe fills in what may change while the agent runs: the underlay's MTU, or less
// where the tunnel proved that a path carries less, what no automatic subnet may
// overlap, and the host's other addresses.
func (m *member) describe(h *discovery.Header) {
	if mtu, dev, err := m.overlay.Underlay(m.cfg.Advertise); err == nil {
		m.tunnel.Use(mtu, dev)
		h.MTU, h.Link = uint16(min(mtu, 65535)), 0
		if path := m.tunnel.Path(); path != 0 && path < mtu {
			h.MTU, h.Link = uint16(path), h.MTU
		}
	}
	h.TunnelPort = m.cfg.Ports.Tunnel
	h.Avoid = m.avoid()
	if all, err := m.machine.Addrs(); err == nil {
		all = slices.DeleteFunc(all, func(a netip.Addr) bool { return a == m.cfg.Advertise })
		h.Addrs = strict.Addresses(all)
	}
}

// avoid is what an automatic subnet must not overlap because of this host: its
// routes, its resolvers and what the configuration names.
func (m *member) avoid() []netip.Prefix {
	out := slices.Clone(m.cfg.Avoid)
	if routes, err := m.machine.Routes(); err == nil {
		out = append(out, routes...)
	}
	for _, a := range resolvers.Servers(m.cfg.DNS.ResolvConf) {
		if !a.IsLoopback() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	// 0.0.0.0/1, as of a VPN that takes all traffic, would leave no room for any.
	out = slices.DeleteFunc(out, func(p netip.Prefix) bool { return !strict.Avoidable(p) })
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out)
}

// underlay is what no new network may overlap, of all members; this host's own
// address counts before gossip has said anything.
func (m *member) underlay() []netip.Prefix {
	self := discovery.Member{Header: discovery.Header{VTEP: m.cfg.Advertise, Avoid: m.avoid()}}
	return networks.Underlay(append(m.directory.View().Members, self))
}

// settings are the plan's.
func settings(cfg config.Config) plan.Settings {
	return plan.Settings{Domain: cfg.Domain, VTEP: cfg.Advertise, TunnelPort: cfg.Ports.Tunnel, GossipPort: cfg.Ports.Gossip, Intercept: map[config.Intercept]plan.Intercept{
		config.InterceptAll: plan.InterceptAll, config.InterceptUpstreams: plan.InterceptResolvers,
	}[cfg.DNS.Intercept]}
}

// around is the member as its endpoints see it.
type around struct {
	*loop
	member   *member
	networks *networks.Registry
}

var _ endpoint.Cluster = around{}

// Usable implements endpoint.Cluster.
func (a around) Usable() error { return usable(a.member) }

// usable returns nil, or an error that says why nothing may be attached here.
func usable(m *member) error {
	if err := m.host.Usable(); err != nil {
		return err
	}
	return m.disks.problem()
}

// Network implements endpoint.Cluster.
func (a around) Network(id discovery.NetworkID) (discovery.Network, bool) { return a.networks.Get(id) }

// FindNetwork implements endpoint.Cluster.
func (a around) FindNetwork(ctx context.Context, nameOrID string) (discovery.Network, error) {
	return a.networks.Find(ctx, nameOrID)
}

// awaitStore waits until the embedded store answers: its file's lock may still
// be on its way to this agent, or to another one of this machine.
func (m *member) awaitStore(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		if id, err = m.store.ID(ctx); err == nil {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-m.ctx.Done():
			return "", errors.Join(err, m.tasks.wait())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// explain turns an error of the parts into the one that the user reads.
func (m *member) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	return diagnose.ExplainTo(m.directory.View(), what, err)
}
