package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Server is made with. The zero value serves port 53 with a
// TTL of 5 s and forwards to the host's resolvers.
type Config struct {
	// TTL of local answers, rounded down to seconds. Zero means 5 s.
	TTL time.Duration
	// Upstreams answer what is not ours, at most the first three. Empty means
	// the resolvers of ResolvConf, read again when it changes.
	Upstreams []netip.AddrPort
	// ResolvConf is a file in the format of resolv.conf(5). Empty means
	// /etc/resolv.conf. Where it names only the stub of systemd-resolved
	// (127.0.0.53), the servers behind the stub are asked instead.
	ResolvConf string
	// ForwardSingleLabel asks upstream for single labels that none of the
	// asker's networks has; otherwise they are denied with NXDOMAIN.
	ForwardSingleLabel bool
	// Port to listen on, UDP and TCP. Zero means 53.
	Port uint16
	// RedirectPort is where questions for other servers arrive, see
	// Network.Redirected. Zero: nowhere.
	RedirectPort uint16
	// Log receives listeners that fail and recover. Nil discards.
	Log *slog.Logger
}

// defaultTTL is short, for an endpoint that moves is to be found again before
// its clients give up.
const defaultTTL = 5 * time.Second

// Server answers on the gateway addresses of a Zone. Its methods are safe for
// concurrent use.
type Server struct {
	cfg    Config
	ttl    uint32 // seconds
	log    *slog.Logger
	view   atomic.Pointer[view]
	local  hostAddrs
	remote *forwarder
	conns  *quota // TCP connections
	stats  counters

	complained atomic.Int64 // when upstreams were last complained about, in Unix nanoseconds

	ctx   context.Context // ends all that serves
	stop  context.CancelFunc
	tasks sync.WaitGroup // listeners, connections and queries in flight

	mu        sync.Mutex // guards what follows, and the order of Sets
	listeners map[listenKey]*listener
	failed    map[listenKey]error
	closed    bool
}

// New returns a Server that serves nothing until it is given a Zone.
func New(cfg Config) *Server {
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, ttl: uint32(cfg.TTL / time.Second), log: cfg.Log, conns: newQuota(tcpPerSource, tcpTotal),
		listeners: make(map[listenKey]*listener), failed: make(map[listenKey]error),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.view.Store(newView(Zone{}, &view{}, cfg.ForwardSingleLabel))
	s.remote = newForwarder(s.ctx, newResolvers(cfg), s.listensOn, s.log)
	return s
}

// Set makes z the zone. When it returns, every query that starts from now on
// is answered from z, and the listeners of z are bound, or failed and retried:
// see Problems. The sockets of a network that keeps its device and gateways are
// not touched. Neither z nor anything in it may be changed afterwards.
func (s *Server) Set(z Zone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The names before the sockets: the first query on a new socket has to
	// find its network.
	s.view.Store(newView(z, s.view.Load(), s.cfg.ForwardSingleLabel))
	s.listen()
}

// retryEvery is how often failed listeners are tried again, and devices are
// looked at: one that was made again under its name has another index, and
// sockets bound to the old one hear nothing.
const retryEvery = time.Second

// Run keeps the listeners up until ctx ends; then it closes them, waits for
// what they are serving and returns nil. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.mu.Lock()
			s.listen()
			s.mu.Unlock()
			if s.view.Load().needsUpstream() {
				s.remote.check()
			}
		}
	}
}

func (s *Server) close() {
	s.stop()
	s.mu.Lock()
	s.closed = true
	s.listen()
	s.mu.Unlock()
	s.tasks.Wait()
}

// listensOn tells our own addresses from upstreams: a query to one of them
// would come back to us.
func (s *Server) listensOn(a netip.AddrPort) bool {
	v := s.view.Load()
	return a.Port() == s.cfg.Port && (v.gateways[a.Addr()] || a.Addr() == v.address)
}
