// Package endpoint makes and removes the endpoints of this host, whichever runtime
// asks. It checks a request, leases the address, makes the interface, writes the
// journal, announces the endpoint and publishes its ports, and it undoes all that.
// It speaks no runtime's protocol. Which hosts and networks there are it asks of
// its Cluster and Directory.
package endpoint

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/resolvers"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/overlay"
)

// Kernel makes and removes the interfaces of sandboxes.
type Kernel interface {
	// Attach makes a sandbox's interface. Repeated for an equal endpoint it returns
	// nil.
	Attach(ctx context.Context, ep overlay.Endpoint) error
	// Detach removes it; nil when there is none.
	Detach(ctx context.Context, id string) error
	// Attached lists the endpoints whose interface exists.
	Attached(ctx context.Context) ([]string, error)
	// Found returns what the kernel alone says of those: ID, Network, Cluster, MAC and
	// Addrs.
	Found(ctx context.Context) ([]overlay.Endpoint, error)
	// Identify returns the cookie of a network namespace; os.ErrNotExist.
	Identify(ctx context.Context, sandbox string) (uint64, error)
	// Inspect returns how a sandbox's interface differs from what Attach made.
	Inspect(ctx context.Context, ep overlay.Endpoint) ([]string, error)
}

// Leases hands out addresses of this host's own blocks.
type Leases interface {
	Lease(ctx context.Context, n discovery.Network, owner discovery.EndpointID, want netip.Addr) (ipam.Lease, error)
	Free(ctx context.Context, n discovery.NetworkID, owner discovery.EndpointID) error
	// Leases lists those that endpoints hold.
	Leases() []ipam.Owned
}

// Directory is where endpoints are announced, and those of other hosts are seen.
type Directory interface {
	Announce(up []discovery.Endpoint, del []discovery.EndpointID)
	View() discovery.View
}

// Cluster is what endpoints need of the rest of this member: its loop, its networks
// and its membership.
type Cluster interface {
	// Usable returns nil, or an error that says why nothing may be attached here.
	Usable() error
	// Network returns a network that this host knows.
	Network(id discovery.NetworkID) (discovery.Network, bool)
	// FindNetwork finds one by name or id, and asks the store for one that this host
	// does not know.
	FindNetwork(ctx context.Context, nameOrID string) (discovery.Network, error)
	// Hold keeps a network's devices until release is called, and returns when they
	// are there. release is never nil. The error is that of Settle: it says that a
	// pass could not do all, not that these devices are missing.
	Hold(ctx context.Context, id discovery.NetworkID) (release func(), err error)
	// Settle waits for a pass that began after the call: what was changed before is
	// in the kernel and in the DNS server when it returns. Poke does not wait.
	Settle(ctx context.Context) error
	Poke()
}

// Host is what endpoints need to know of this one.
type Host struct {
	ID        discovery.HostID
	Name      string
	Cluster   string          // id, for the alias of links
	VTEP      netip.Addr      // its tunnel address
	Domain    string          // of names
	Fabric    string          // path of the namespace with the bridges
	Boot      func() string   // tells this start of the machine from any other; empty: unknown
	Search    func() []string // the host's search domains
	Files     resolvers.Files // of named namespaces
	Resolvers Resolvers       // is told when an endpoint goes
}

// Resolvers keeps how the sandboxes of endpoints ask for names.
type Resolvers interface {
	Set(source string, addrs []netip.Addr)
	SetOtherAddrs(id discovery.EndpointID, addrs []netip.Addr)
}

// Config is what a Manager is made of.
type Config struct {
	Host    Host
	Journal *journal.Journal
	Ports   *hostport.Table
	Kernel  Kernel
	Cluster Cluster
	Past    Past
	Events  event.Sink
	Log     *slog.Logger
}

// Past is what earlier agents wrote down, beside the journal.
type Past struct {
	Fresh  bool                                        // this host has just become a member: nothing that is there is of it
	Lost   bool                                        // the journal is not all that they wrote
	Leased map[discovery.EndpointID]bool               // endpoints that have a lease
	Backup map[discovery.EndpointID]journal.Local      // of the journal, a moment older
	Refuse func(source string, why error, hint string) // is told what was taken up from elsewhere
}

// Manager is this host's endpoints.
type Manager struct {
	*parts
	ports    *publisher
	stations *stations
	hostless hostless
	// Inspections are of all sandboxes.
	Inspections *Inspections
}

// parts are what every step in an endpoint's life needs. Each has a lock of its
// own.
type parts struct {
	Config
	leases    Leases
	directory Directory
	locks     keyedLocks // by sandbox: one request at a time for each
	unplugs   unplugs    // interfaces that are being removed
	busy      busy       // endpoints that requests work on
	used      lately     // networks that had endpoints here a moment ago
	files     files      // what the files of named namespaces say
	count     counters
	// background is the context of what goes on after its request; stop ends it.
	background context.Context
	stop       context.CancelFunc
}

// New makes a Manager of what the journal holds. Before Use only Resume,
// Planned and Active may be called.
func New(cfg Config) *Manager {
	p := &parts{Config: cfg}
	p.background, p.stop = context.WithCancel(context.Background())
	m := &Manager{parts: p, ports: &publisher{p}, stations: &stations{parts: p}, hostless: hostless{}}
	m.Inspections = &Inspections{look: m.Altered, wanted: pace.NewSignal()}
	return m
}

// Use gives the Manager the leases and the gossip, which are opened after the
// journal was read.
func (m *Manager) Use(l Leases, d Directory) { m.leases, m.directory = l, d }

// Close waits 5 s at most for requests under way, and 5 s at most for interfaces
// that are being removed. The member's tasks have ended before, so no request waits
// for a pass.
func (m *Manager) Close() {
	m.stop()
	if !m.locks.waitIdle(requestsFor) {
		m.Log.Warn("requests go on while the membership ends")
	}
	if left := m.unplugs.waitAll(unplugFor); left > 0 {
		m.Log.Warn("interfaces of removed endpoints are still there, the next agent removes them", "interfaces", left)
	}
	m.Ports.Close()
}

const (
	requestsFor = 5 * time.Second // for requests under way when a membership ends
	unplugFor   = 5 * time.Second // for the interfaces that are being removed then
)

// Planned returns the endpoints in the form that package plan takes.
func (m *Manager) Planned() []plan.Local {
	all := m.Journal.All()
	out := make([]plan.Local, len(all))
	for i, l := range all {
		out[i] = l.Planned()
	}
	return out
}

// Active returns the networks that need devices here: those that endpoints or the
// host itself are on, and those that had one a moment ago (linger).
func (m *Manager) Active() map[discovery.NetworkID]bool {
	out := m.used.since(linger)
	for _, l := range m.Journal.All() {
		out[l.Endpoint.Network] = true
	}
	return out
}

// lockLocal takes the lock of an endpoint's sandbox, and reads under it what the
// journal has of the endpoint: a request that held it before may have changed
// that. false, with nothing locked, when the endpoint is gone.
func (p *parts) lockLocal(ctx context.Context, id discovery.EndpointID) (l journal.Local, unlock func(), ok bool, err error) {
	if l, ok = p.Journal.Get(id); !ok {
		return journal.Local{}, nil, false, nil
	}
	unlock, err = p.locks.lock(ctx, l.LockKey())
	if err != nil {
		return journal.Local{}, nil, false, err
	}
	if l, ok = p.Journal.Get(id); !ok {
		unlock()
		return journal.Local{}, nil, false, nil
	}
	return l, unlock, true, nil
}

// link is the interface of an endpoint, as the kernel side wants it.
func (p *parts) link(n discovery.Network, l journal.Local) overlay.Endpoint {
	ep := overlay.Endpoint{
		ID: l.Endpoint.ID.String(), VNI: n.VNI, Network: n.ID.String(), Cluster: p.Host.Cluster,
		Sandbox: l.Sandbox, Ifname: l.Ifname, MAC: overlay.MAC(l.Endpoint.MAC), MTU: p.mtu(n), Addrs: l.Addrs,
	}
	if l.NoDefault {
		return ep
	}
	for _, sub := range n.Subnets {
		if slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr().Is4() == sub.Gateway.Is4() }) {
			ep.Gateways = append(ep.Gateways, sub.Gateway)
		}
	}
	return ep
}

// mtu is the network's, as a plan would have it now.
func (p *parts) mtu(n discovery.Network) int {
	v := p.directory.View()
	return plan.MTU(n, v.Self, v.Members, p.Host.VTEP)
}

// Answer makes the answer to an attach request.
func (p *parts) Answer(n discovery.Network, l journal.Local) api.Attachment {
	out := api.Attachment{
		ID: l.Endpoint.ID.String(), Name: l.Endpoint.Name, Network: n.Name,
		Address: l.Addrs[0].String(), MAC: l.Endpoint.MAC.String(), MTU: p.mtu(n), Interface: l.Ifname,
		Ports:  PortTexts(l.Ports),
		Search: []string{n.Name + "." + p.Host.Domain, p.Host.Domain},
	}
	for _, sub := range n.Subnets {
		out.DNS = append(out.DNS, sub.Gateway.String())
		if out.Gateway == "" && !l.NoDefault {
			out.Gateway = sub.Gateway.String()
		}
	}
	return out
}
