package agent

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/recent"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Overlay is the kernel side of this host.
type Overlay interface {
	endpoint.Kernel
	// Set programs the difference between the state and the kernel.
	Set(ctx context.Context, s overlay.State) error
	// Underlay is the MTU of the device with an address, in bytes.
	Underlay(a netip.Addr) (mtu int, dev string, err error)
	// Surroundings are what other programs have in the way of the networks here.
	Surroundings() overlay.Surroundings
	// OpenProbe opens a socket in the probe network.
	OpenProbe(vni uint32) (tunnel.Socket, error)
	// OpenBulk opens what bulk is sent by in the probe network.
	OpenBulk(vni uint32) (tunnel.Bulk, error)
	// OpenTap opens a tap on the tunnel's port, for datagrams of a network.
	OpenTap(v6 bool, port uint16, vni uint32) (tunnel.Tap, error)
	// Clean removes everything that is ours; only Close may follow.
	Clean(ctx context.Context) error
	Close() error
	// Run repairs drift until ctx ends.
	Run(ctx context.Context) error
	// Troubles are what the kernel refuses now.
	Troubles() []overlay.Trouble
	// Verify compares the kernel with the last State; Repair makes it so now.
	Verify(ctx context.Context) (drift []overlay.Drift, checked int, err error)
	Repair(ctx context.Context) error
	// Needs are what weft uses of the kernel, and what of it is missing.
	Needs() []overlay.Need
	// Stats count what was done to the kernel, Drops what its packet filter dropped.
	Stats() overlay.Stats
	Drops() ([]overlay.Drop, error)
}

// Names is the DNS server of this host.
type Names interface {
	Set(z dns.Zone)
	Run(ctx context.Context) error
	// Problems are the listeners that could not be bound.
	Problems() []error
	// Upstreams are those that answer what is not ours.
	Upstreams() dns.Upstreams
	Stats() dns.Stats
	Resolve(ctx context.Context, name, qtype string, s dns.Scope) (dns.Answer, error)
}

// Directory is the gossip that this host takes part in: members and the
// endpoint table.
type Directory interface {
	endpoint.Directory
	diagnose.Gossip
	Run(ctx context.Context) error
	Join(ctx context.Context, addrs []netip.AddrPort, progress func(string)) ([]discovery.Member, error)
	SetHeader(change func(*discovery.Header))
	Changes() <-chan struct{}
	Leave(ctx context.Context) error
	Forget(ids []discovery.HostID)
	Reconsider(drop []discovery.HostID)
	Running(at netip.AddrPort) bool
	SetHolder(h func(n discovery.NetworkID, a netip.Addr) (holder discovery.HostID, known bool))
	Call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
	Stats() gossip.Stats
}

// Leases hands out addresses of this host's own blocks.
type Leases interface {
	endpoint.Leases
	networks.Leases
	// Held are the blocks as the pool knows them, HeldAddrs the addresses that it
	// records one by one.
	Held() []discovery.Block
	HeldAddrs() []discovery.ReservedAddr
	// Holds reports whether an own block covers the address.
	Holds(n discovery.NetworkID, a netip.Addr) bool
	Changes() <-chan struct{}
	Serve(from discovery.HostID, body []byte) []byte
	Run(ctx context.Context) error
}

// Pool is the strongly consistent store of the cluster, cut by who uses it.
type Pool struct {
	Founding                     // for init
	Records   membership.Records // the cluster's hosts
	Networks  networks.Store     // and their blocks
	Holders   networks.Holders   // of a network that is deleted
	WriteBack networks.WriteBack // after a wipe
	Blocks    ipam.Pool          // of this host
	Address   Address            // of Consul
	Stats     func() pool.Stats
}

// Address is where the store is asked.
type Address interface {
	// UseAddress has another Consul asked, or several with commas between.
	UseAddress(address string) error
	// Address is what UseAddress, or the configuration, said last; empty: the embedded
	// store.
	Address() string
	Close()
}

// Founding makes a cluster in the store.
type Founding interface {
	Init(ctx context.Context, m pool.Meta, h pool.Host) error
	Adopt(ctx context.Context, m pool.Meta, h pool.Host) (pool.Meta, error)
}

// PoolOf is one store in all its roles.
func PoolOf(p *pool.Pool) Pool {
	return Pool{Founding: p, Records: p, Networks: p, Holders: p, WriteBack: p, Blocks: p, Address: p, Stats: p.Stats}
}

// EmbeddedStore is the pool's stand-in for one machine.
type EmbeddedStore interface {
	Run(ctx context.Context) error
	ID(ctx context.Context) (string, error)
}

// Docker is this host's side of a Docker engine.
type Docker interface {
	// Run serves the engine, when there is one, until ctx ends.
	Run(ctx context.Context) error
	// Clear takes the cluster's networks away from the engine.
	Clear(ctx context.Context) error
	// Connect and Disconnect ask the engine to, as docker.Service has them.
	Connect(ctx context.Context, r docker.Connection) (docker.Connected, error)
	Disconnect(ctx context.Context, network, container string, force bool) error
	// Found reports whether there is an engine, and it answers.
	Found() bool
	// Engine returns its version and that of its API, also of one that hangs; empty:
	// there is none.
	Engine() (version, api string)
	// Checks are its lines of status.
	Checks() []api.Check
	// Idle makes containers for the connectivity suite.
	Idle() docker.Idle
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
	// Addrs are the addresses of this host that are not ours.
	Addrs() ([]netip.Addr, error)
	// Routes are the subnets that this host reaches without us.
	Routes() ([]netip.Prefix, error)
	// Neighbours are the kernel's neighbour tables.
	Neighbours() ([]overlay.NeighbourTable, error)
	// BootID tells this start of the machine from any other; empty: unknown.
	BootID() string
	// FabricPath is the path of the namespace with the bridges.
	FabricPath() string
}

// Sandboxes are this host's namespaces, as programs in them see them.
type Sandboxes interface {
	// Look sees a sandbox, empty the host's namespace, from within, and Try makes a
	// try from there, until ctx ends.
	Look(sandbox string, c overlay.Crossing, arrives bool) (overlay.Inside, error)
	Try(ctx context.Context, sandbox string, c overlay.Crossing) (overlay.Trial, time.Duration, error)
	// Ping sends echoes from there.
	Ping(ctx context.Context, sandbox string, e overlay.Echoes) ([]overlay.Echo, error)
}

// Rooms are namespaces that end with this process, and echo servers in namespaces.
type Rooms interface {
	Make() (path string, room io.Closer, err error)
	Serve(path string, at netip.AddrPort, name string) (io.Closer, error)
	Speak(ctx context.Context, path string, s overlay.Speech) (who string, err error)
	Resolve(ctx context.Context, path string, server netip.AddrPort, name string, reverse bool) ([]string, error)
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
	Within  Sandboxes
	Rooms   Rooms
	Sockets Sockets

	// Lines are the last ones of the log; nil: nobody keeps them.
	Lines *recent.Lines

	// OpenDocker returns the side that serves a Docker engine; nil: this host
	// has nothing to do with Docker.
	OpenDocker func(docker.Agent) Docker

	// OpenOverlay opens the kernel and makes the fabric namespace. It tells what it
	// repairs.
	OpenOverlay func(repaired func(overlay.Repair)) (Overlay, error)
	// OpenPool opens the pool of a cluster (empty: of whichever it finds) in
	// Consul, or in the embedded store when s.Consul is empty; then the store is
	// not nil and must be run first.
	// Keys that are not weft's are told to refused, which may be nil.
	OpenPool func(s config.Store, file, cluster string, refused *strict.Ledger) (Pool, EmbeddedStore, error)
	// OpenDirectory binds the gossip port.
	OpenDirectory func(cfg gossip.Config) (Directory, error)
	// OpenLeases reads what leases.db holds of own blocks and addresses.
	OpenLeases func(cfg ipam.Config) (Leases, error)
	// OpenDB opens a database file; one that is damaged is put aside and replaced, one
	// that cannot be written is read.
	OpenDB func(path string, keep boltfile.Keep) (*boltfile.DB, *boltfile.Damage, error)
}
