package agent

import (
	"context"
	"net"
	"net/netip"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Overlay is the kernel side of this host.
type Overlay interface {
	// Set programs the difference between the state and the kernel.
	Set(ctx context.Context, s overlay.State) error
	// Attach makes a sandbox's interface; again for an equal endpoint is nil.
	Attach(ctx context.Context, ep overlay.Endpoint) error
	// Detach removes it; nil when there is none.
	Detach(ctx context.Context, id string) error
	// Attached lists the endpoints whose interface exists.
	Attached(ctx context.Context) ([]string, error)
	// Identify returns the cookie of a network namespace; os.ErrNotExist.
	Identify(ctx context.Context, sandbox string) (uint64, error)
	// Underlay is the MTU of the device with an address, in bytes.
	Underlay(a netip.Addr) (mtu int, dev string, err error)
	// OpenProbe opens a socket in the probe network.
	OpenProbe(vni uint32) (Probe, error)
	// Clean removes everything that is ours; only Close may follow.
	Clean(ctx context.Context) error
	Close() error
	// Run repairs drift until ctx ends.
	Run(ctx context.Context) error
}

// Names is the DNS server of this host.
type Names interface {
	Set(z dns.Zone)
	Run(ctx context.Context) error
	// Problems are the listeners that could not be bound.
	Problems() []error
	Resolve(ctx context.Context, name, qtype string, s dns.Scope) (dns.Answer, error)
}

// Directory is the gossip that this host takes part in: members and the
// endpoint table.
type Directory interface {
	Run(ctx context.Context) error
	Join(ctx context.Context, addrs []netip.AddrPort, progress func(string)) ([]discovery.Member, error)
	Announce(up []discovery.Endpoint, del []discovery.EndpointID)
	SetHeader(change func(*discovery.Header))
	View() discovery.View
	Changes() <-chan struct{}
	Leave(ctx context.Context) error
	Forget(ids []discovery.HostID)
	Call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
}

// Leases hands out addresses of this host's own blocks.
type Leases interface {
	Lease(ctx context.Context, n discovery.Network, owner discovery.EndpointID, want netip.Addr) (ipam.Lease, error)
	Free(ctx context.Context, n discovery.NetworkID, owner discovery.EndpointID) error
	// Blocks are those in hand, for the header; Held as the pool knows them.
	Blocks() []discovery.HeaderNetwork
	Held() []discovery.Block
	// HeldAddrs are the addresses that the pool records one by one.
	HeldAddrs() []discovery.ReservedAddr
	// Leases lists those that endpoints hold.
	Leases() []ipam.Owned
	Changes() <-chan struct{}
	Serve(from discovery.HostID, body []byte) []byte
	Drop(n discovery.NetworkID) error
	Run(ctx context.Context) error
}

// Pool is the strongly consistent store of the cluster.
type Pool interface {
	ipam.Pool
	Meta(ctx context.Context) (pool.Meta, error)
	Init(ctx context.Context, m pool.Meta, h pool.Host) error
	Adopt(ctx context.Context, m pool.Meta, h pool.Host) (pool.Meta, error)
	Hosts(ctx context.Context) ([]pool.Host, error)
	Register(ctx context.Context, h pool.Host) error
	Unregister(ctx context.Context, self discovery.HostID, name string) error
	Fence(ctx context.Context, name, by string) (pool.Host, error)
	FenceLost(ctx context.Context, id discovery.HostID, name, by string) error
	FreeHeld(ctx context.Context, id discovery.HostID) (blocks, addrs int, err error)
	CreateNetwork(ctx context.Context, spec pool.NetworkSpec) (discovery.Network, error)
	DeleteNetwork(ctx context.Context, name, by string, force bool) (discovery.Network, error)
	FinishDelete(ctx context.Context, n discovery.Network, by string) (bool, error)
	FreeNetworkHeld(ctx context.Context, n discovery.Network, host discovery.HostID) error
	Networks(ctx context.Context) ([]discovery.Network, error)
	Watch(ctx context.Context, deliver func(pool.Contents)) error
	Reassert(ctx context.Context, m pool.Meta, h pool.Host, networks []discovery.Network, blocks []discovery.Block) error
	ReassertAddrs(ctx context.Context, h pool.Host, networks []discovery.Network, addrs []discovery.ReservedAddr) error
	Healthy() error
}

// EmbeddedStore is the pool's stand-in for one machine.
type EmbeddedStore interface {
	Run(ctx context.Context) error
	ID(ctx context.Context) (string, error)
}

// Host is what the agent asks the machine about.
type Host interface {
	// Privileged returns an os.ErrPermission when this process may not program
	// the kernel.
	Privileged() error
	// DefaultAddr is the source address of the default route.
	DefaultAddr() (netip.Addr, error)
	// HasAddr reports whether a device of the host has the address.
	HasAddr(a netip.Addr) (bool, error)
	// Routes are the subnets that this host reaches without us.
	Routes() ([]netip.Prefix, error)
	// BootID tells this start of the machine from any other; empty: unknown.
	BootID() string
	// FabricPath is the path of the namespace with the bridges.
	FabricPath() string
}

// Sockets are listeners that the service manager opened for the agent, so that
// a caller waits while the agent starts instead of being refused. The agent
// binds by itself those that are nil.
type Sockets struct {
	API    net.Listener // for agentctl, instead of config.Config.Socket
	Docker net.Listener // for Docker's plugin protocol
}

// Parts are what an agent is assembled from: the real ones (New), or others
// (tests). Those that exist only while the host is a member are made by the
// functions.
type Parts struct {
	Names   Names
	Host    Host
	Sockets Sockets

	// OpenDocker returns the side that serves a Docker engine; nil: this host
	// has nothing to do with Docker.
	OpenDocker func(docker.Agent) Docker

	// OpenOverlay opens the kernel and makes the fabric namespace.
	OpenOverlay func() (Overlay, error)
	// OpenPool opens the pool of a cluster (empty: of whichever it finds) in
	// Consul, or in the embedded store when s.Consul is empty; then the store is
	// not nil and must be run first.
	OpenPool func(s config.Store, file, cluster string) (Pool, EmbeddedStore, error)
	// OpenDirectory binds the gossip port.
	OpenDirectory func(cfg gossip.Config) (Directory, error)
	// OpenLeases reads what leases.db holds of own blocks and addresses.
	OpenLeases func(cfg ipam.Config) (Leases, error)
	// OpenDB opens a database file.
	OpenDB func(path string) (*bbolt.DB, error)
}
