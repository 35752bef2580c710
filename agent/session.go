package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/dns"
)

// linger is how long a network's devices stay after its last local endpoint
// went away, so that a container that is replaced does not rebuild them.
const linger = 15 * time.Second

// session is this host's membership in one cluster: the parts that exist only
// while it is a member, and the loop that carries the cluster into the kernel
// and the DNS server.
type session struct {
	cfg     Config // with what the cluster fixed for all hosts
	log     *slog.Logger
	cluster clusterFile
	host    hostFile
	nonce   uint64
	data    *dataDir

	overlay   Overlay
	names     Names
	machine   Host
	probes    *prober
	pool      Pool
	store     EmbeddedStore // nil with Consul
	directory Directory
	leases    Leases
	journal   *journal
	conflists *conflists
	docker    *dockerBook
	ports     *hostPorts
	view      viewDB
	dbs       []*bbolt.DB

	ctx           context.Context // of the tasks
	cancel        context.CancelFunc
	group         *errgroup.Group
	storeRuns     bool
	directoryRuns bool
	probesRun     bool
	stopLeases    atomic.Pointer[context.CancelFunc]
	stopping      atomic.Bool // by halt: not by a task that failed
	started       time.Time
	kept          bool       // the membership is on the disk
	locks         keyedLocks // by sandbox: one request at a time for each
	unplugs       unplugs
	wake          chan struct{}
	connectors    map[string]connector // by runtime

	mu         sync.Mutex
	networks   []discovery.Network               // of the pool, as last delivered; sorted by VNI
	absent     map[discovery.NetworkID]time.Time // shown before, and since then neither listed nor deleted
	listed     map[discovery.NetworkID]bool      // of them, those that the watch has shown
	carried    map[discovery.NetworkID]bool      // by the last pass
	unfreed    []discovery.HostID                // hosts whose name this one took, whose blocks are still to be freed
	leaving    bool
	complete   bool // everything was read once
	read       bool // delivered since this agent started
	deleted    map[discovery.NetworkID]pool.GoneBy
	restored   int  // the watch's count of fallen indexes
	lost       bool // the store lacks what this host knows: to be written back
	used       map[discovery.NetworkID]time.Time
	attaching  map[discovery.EndpointID]bool
	stations   map[station]bool   // of endpoints that are being made
	waiters    []chan error       // of settle
	passErr    error              // of the last pass
	zone       dns.Zone           // of the last pass
	forgotten  string             // who took this host out, and when
	registered []discovery.HostID // the pool's hosts; nil: not read since this agent started

	// Of Asking.
	resolvers map[string][]netip.Addr // by who has containers ask them
	bridged   map[discovery.EndpointID][]netip.Addr
	search    []string
	address   bool
}

// open opens everything a member needs, and nothing that another host notices:
// the gossip port is bound, but nobody was spoken to. A failure closes what was
// opened.
func (a *Agent) open(cluster clusterFile, host hostFile, fresh bool) (s *session, err error) {
	s = &session{
		cfg: a.config(), log: a.log, cluster: cluster, host: host, nonce: a.nonce, data: a.dir,
		names: a.parts.Names, machine: a.parts.Host, probes: &prober{self: host.ID},
		conflists: newConflists(a.cfg, a.log),
		wake:      make(chan struct{}, 1), started: time.Now(), used: map[discovery.NetworkID]time.Time{}, attaching: map[discovery.EndpointID]bool{},
		stations: map[station]bool{},
	}
	s.cfg.adopt(cluster, a.log)
	if a.docker != nil {
		s.connectors = map[string]connector{runtimeDocker: dockerConnector{s, a.docker}}
	}
	s.forgotten = cluster.Forgotten
	s.resolvers, s.bridged = map[string][]netip.Addr{}, map[discovery.EndpointID][]netip.Addr{}
	if s.unfreed, err = a.dir.unfreed(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.group, s.ctx = errgroup.WithContext(ctx)
	half := s // a return of nil and an error clears s
	s.ports = newHostPorts(ctx)
	defer func() {
		if err != nil {
			half.stop()
		}
	}()
	if len(cluster.CA) > 0 && s.cfg.Store.CAFile == "" {
		s.cfg.Store.CAFile = a.dir.file("consul-ca.pem")
		if err := replaceFile(s.cfg.Store.CAFile, cluster.CA, 0o600); err != nil {
			return nil, err
		}
	}
	if s.overlay, err = a.parts.OpenOverlay(); err != nil {
		return nil, err
	}
	leasesDB, err := s.openDB(a, "leases.db")
	if err != nil {
		return nil, err
	}
	viewDB_, err := s.openDB(a, "view.db")
	if err != nil {
		return nil, err
	}
	s.view = viewDB{viewDB_}
	if s.journal, err = openJournal(leasesDB); err != nil {
		return nil, err
	}
	if s.docker, err = openDockerBook(leasesDB); err != nil {
		return nil, err
	}
	s.loadNetworks()
	s.lookAsking()
	if err := s.prune(); err != nil {
		return nil, err
	}
	s.ports.reclaim(s.journal.all()) // before another program does
	if s.pool, s.store, err = a.openPool(s, fresh); err != nil {
		return nil, err
	}
	// The leases come first: gossip may hand over a member's request for an
	// address as soon as its port is bound.
	s.leases, err = a.parts.OpenLeases(ipam.Config{
		Self: host.ID, Nonce: a.nonce, DB: leasesDB, Pool: s.pool, Log: a.log,
		Lend: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			return s.directory.Call(ctx, to, body)
		},
		View: func() discovery.View { return s.directory.View() },
	})
	if err != nil {
		return nil, err
	}
	s.directory, err = a.parts.OpenDirectory(s.gossipConfig())
	return s, err
}

// adopt takes what all hosts share from the cluster: it wins over this host's
// configuration, with a warning where they differ.
func (c *Config) adopt(cluster clusterFile, log *slog.Logger) {
	differ := func(key string, mine, theirs any) {
		if mine != theirs {
			log.Warn("the cluster's setting wins over this host's configuration", "key", key, "cluster", theirs, "host", mine)
		}
	}
	differ("domain", c.Domain, cluster.Domain)
	differ("pool", c.Pool, cluster.Pool)
	differ("profile", c.Profile, cluster.Profile)
	differ("gossip_port", c.Ports.Gossip, cluster.GossipPort)
	differ("tunnel_port", c.Ports.Tunnel, cluster.TunnelPort)
	wireguard := or(cluster.WireGuardPort, c.Ports.WireGuard)
	differ("wireguard_port", c.Ports.WireGuard, wireguard)
	c.Domain, c.Pool, c.Profile = cluster.Domain, cluster.Pool, cluster.Profile
	c.Ports = PortConfig{Gossip: cluster.GossipPort, Tunnel: cluster.TunnelPort, WireGuard: wireguard}
	c.Store.Consul, c.Store.Prefix = cluster.Consul, cluster.Prefix
}

// openPool opens the cluster's store. A host that becomes a member takes the
// cluster it finds there; one that is a member knows which it must be.
func (a *Agent) openPool(s *session, fresh bool) (Pool, EmbeddedStore, error) {
	cluster := s.cluster.ID
	if fresh {
		cluster = ""
	}
	return a.parts.OpenPool(s.cfg.Store, a.storeFile(), cluster)
}

func (a *Agent) storeFile() string { return filepath.Join(a.cfg.DataDir, "store.db") }

func (s *session) openDB(a *Agent, name string) (*bbolt.DB, error) {
	db, err := a.parts.OpenDB(a.dir.file(name))
	if err != nil {
		return nil, err
	}
	s.dbs = append(s.dbs, db)
	return db, nil
}

func (s *session) gossipConfig() gossip.Config {
	cfg := gossip.Config{
		Self: s.host.ID, Name: s.host.Name, Version: Version,
		Incarnation: s.host.Incarnation, Nonce: s.nonce,
		Bind:    netip.AddrPortFrom(s.cfg.Advertise, s.cfg.Ports.Gossip),
		Keys:    s.cluster.Keys,
		Profile: s.cfg.Profile,
		Header:  discovery.Header{Nonce: s.nonce, Name: s.host.Name, Version: Version, VTEP: s.cfg.Advertise, TunnelPort: s.cfg.Ports.Tunnel},
		Saved:   s.view.load(viewGossip),
		Save:    func(b []byte) error { return s.view.save(viewGossip, b) },
		Seeds:   s.seeds,
		Serve:   s.serve,
		Forgotten: func(by string) {
			s.forget("a member (" + by + ") says so")
		},
		Conflict: func(other netip.AddrPort) {
			s.mu.Lock()
			s.cluster.Cloned = true
			s.mu.Unlock()
			s.log.Error("another agent runs under this host's id: a copied data directory?", "addr", other)
			s.forget(fmt.Sprintf("the agent at %s has the same host id", other))
		},
		DNSGrace: s.cfg.Grace,
		Log:      s.log,
	}
	var id discovery.HostID
	if err := id.UnmarshalText([]byte(s.cluster.ID)); err == nil {
		cfg.Cluster = id
	}
	for _, l := range s.journal.all() {
		// Docker's that have not joined, or have left, nobody reaches.
		if l.Docker == nil || l.Docker.SandboxKey != "" {
			cfg.Endpoints = append(cfg.Endpoints, l.Endpoint)
		}
	}
	s.describe(&cfg.Header)
	return cfg
}

// describe fills in what may change while the agent runs: the underlay's MTU,
// what no automatic subnet may overlap, and the networks this host takes part
// in.
func (s *session) describe(h *discovery.Header) {
	if mtu, _, err := s.overlay.Underlay(s.cfg.Advertise); err == nil {
		h.MTU = uint16(min(mtu, 65535))
	}
	h.TunnelPort = s.cfg.Ports.Tunnel
	h.Avoid = s.avoid()
}

// avoid is what an automatic subnet must not overlap because of this host: its
// routes, its resolvers and what the configuration names.
func (s *session) avoid() []netip.Prefix {
	out := slices.Clone(s.cfg.Avoid)
	if routes, err := s.machine.Routes(); err == nil {
		out = append(out, routes...)
	}
	for _, a := range resolvers(s.cfg.DNS.ResolvConf) {
		if !a.IsLoopback() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out)
}

// seeds are the hosts that the pool knows: where gossip asks when members that
// it remembers are missing.
func (s *session) seeds(ctx context.Context) ([]netip.AddrPort, error) {
	hosts, err := s.pool.Hosts(ctx)
	if err != nil {
		return s.cluster.Peers, err
	}
	out := slices.Clone(s.cluster.Peers)
	for _, h := range hosts {
		if h.ID != s.host.ID {
			out = append(out, h.Gossip)
		}
	}
	return out, nil
}

// loadNetworks takes the networks of the last start, so that the kernel is
// programmed and names are answered before the pool was asked.
func (s *session) loadNetworks() {
	b := s.view.load(viewNetwork)
	if b == nil {
		return
	}
	if err := json.Unmarshal(b, &s.networks); err != nil {
		s.log.Warn("the networks of the last start cannot be read", "err", err)
	}
	s.listed = map[discovery.NetworkID]bool{}
	for _, n := range s.networks {
		s.listed[n.ID] = true
	}
}

// prune drops journaled endpoints whose sandbox went away while no agent ran.
// It happens before gossip opens: what is announced first is what runs.
func (s *session) prune() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	plugged, err := s.overlay.Attached(ctx)
	if err != nil {
		return err
	}
	for _, l := range s.journal.all() {
		// An interface lives exactly as long as its namespace, whatever became
		// of the path: a process may hold one that has no name any more.
		if l.ofHost() || l.Docker != nil || slices.Contains(plugged, l.Endpoint.ID.String()) {
			continue
		}
		gone, err := s.vanished(ctx, l)
		if err == nil && !gone {
			continue
		}
		if err != nil {
			s.log.Warn("cannot tell whether the sandbox is there, keeping the endpoint", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox, "err", err)
			continue
		}
		s.log.Info("sandbox went away while no agent ran", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox)
		if err := s.journal.remove(l.Endpoint.ID); err != nil {
			return err
		}
		s.restoreResolv(l)
	}
	return nil
}

// runStore runs the embedded store, if it is the cluster's.
func (s *session) runStore() {
	if s.store != nil && !s.storeRuns {
		s.storeRuns = true
		s.group.Go(func() error { return s.store.Run(s.ctx) })
	}
}

// runDirectory takes part in gossip.
func (s *session) runDirectory() {
	if !s.directoryRuns {
		s.directoryRuns = true
		s.group.Go(func() error { return s.directory.Run(s.ctx) })
	}
}

// runProbes answers and sends probes through the tunnel.
func (s *session) runProbes() {
	if !s.probesRun {
		s.probesRun = true
		s.group.Go(func() error {
			return s.probes.run(s.ctx, func() (Probe, error) { return s.overlay.OpenProbe(probeVNI) })
		})
	}
}

// start runs the session's parts until stop.
func (s *session) start() {
	s.releaseOrphans(s.ctx)
	s.runStore()
	s.runDirectory()
	s.runProbes()
	// What a host that was taken out holds belongs to others by now, or to the
	// host it is a copy of: it gives nothing back and claims nothing.
	if s.forgottenBy() == "" {
		leases, stop := context.WithCancel(s.ctx)
		s.stopLeases.Store(&stop)
		s.group.Go(func() error { return s.leases.Run(leases) })
	}
	s.group.Go(func() error { return s.overlay.Run(s.ctx) })
	s.group.Go(func() error { return s.pool.Watch(s.ctx, s.deliver) })
	s.group.Go(func() error { return s.loop(s.ctx) })
	s.group.Go(func() error { return s.reap(s.ctx) })
	s.group.Go(func() error { return s.housekeep(s.ctx) })
	s.group.Go(func() error { return s.learnHosts(s.ctx) })
	s.group.Go(func() error { return s.keepConflists(s.ctx) })
}

// releaseOrphans frees leases whose endpoint never reached the journal: the
// agent died between the two. Those that Docker may just have asked for are
// left to freeUnclaimed.
func (s *session) releaseOrphans(ctx context.Context) {
	for _, o := range s.leases.Leases() {
		if _, ok := s.journal.get(o.Owner); ok || s.docker.serves(o.Network) {
			continue
		}
		if err := s.leases.Free(ctx, o.Network, o.Owner); err != nil {
			s.log.Warn("lease without endpoint not freed", "endpoint", o.Owner, "err", err)
		}
	}
}

// stop ends the session and closes what it opened. Nothing is torn down: the
// kernel goes on with what it has.
func (s *session) stop() {
	s.halt()
	s.close()
}

// halt ends the session's tasks.
func (s *session) halt() {
	s.stopping.Store(true)
	s.cancel()
	if s.directory != nil {
		s.runDirectory() // with an ended context: it closes its sockets
	}
	if err := s.group.Wait(); err != nil {
		s.log.Error("a task of this member failed", "err", err)
	}
	if left := s.unplugs.waitAll(unplugFor); left > 0 {
		s.log.Warn("interfaces of removed endpoints are still there, the next agent removes them", "interfaces", left)
	}
}

func (s *session) close() {
	s.ports.close()
	for _, db := range s.dbs {
		_ = db.Close()
	}
	if s.overlay != nil {
		_ = s.overlay.Close()
	}
}

// forget marks this host as taken out of the cluster: what works here goes on,
// nothing new is announced or allocated.
func (s *session) forget(why string) {
	s.mu.Lock()
	first := s.forgotten == ""
	s.forgotten = why
	s.mu.Unlock()
	if stop := s.stopLeases.Load(); stop != nil {
		(*stop)()
	}
	if !first || !s.kept {
		return
	}
	s.log.Error("this host was taken out of the cluster", "why", why)
	s.cluster.Forgotten = why
	if err := s.data.write("cluster.json", s.cluster); err != nil {
		s.log.Error("cannot remember that this host was taken out", "err", err)
	}
}
