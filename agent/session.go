package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
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
	cfg     config.Config // with what the cluster fixed for all hosts
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
	ports     *hostport.Table
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
	kept          bool                   // the membership is on the disk
	pruned        []discovery.EndpointID // endpoints that ended while no agent ran
	locks         keyedLocks             // by sandbox: one request at a time for each
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

// releaseOrphans frees leases whose endpoint ended while no agent ran, or never
// reached the journal: the agent died between the two. Of the latter, those that
// Docker may just have asked for are left to freeUnclaimed.
func (s *session) releaseOrphans(ctx context.Context) {
	for _, o := range s.leases.Leases() {
		_, there := s.journal.get(o.Owner)
		if there || s.docker.serves(o.Network) && !slices.Contains(s.pruned, o.Owner) {
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

// requestsFor is for requests under way, whose waiting ends with the session's
// tasks: what they do next needs the kernel and the disk.
const requestsFor = 5 * time.Second

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
	if !s.locks.waitIdle(requestsFor) {
		s.log.Warn("requests go on while the membership ends")
	}
	if left := s.unplugs.waitAll(unplugFor); left > 0 {
		s.log.Warn("interfaces of removed endpoints are still there, the next agent removes them", "interfaces", left)
	}
}

func (s *session) close() {
	s.ports.Close()
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
