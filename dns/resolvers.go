package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	defaultResolvConf = "/etc/resolv.conf"
	// maxUpstreams is MAXNS of resolv.conf(5).
	maxUpstreams = 3
	// lookEvery is how often the files are looked at, while queries need them.
	lookEvery = time.Second
)

// resolvers knows the upstreams: given ones, or the host's as they are now.
type resolvers struct {
	conf, stub string // files
	dial       func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	known map[netip.AddrPort]*upstream // what is known of a server survives a new file
	list  []*upstream
	fixed bool
	err   error // of reading conf
	look  time.Time
	seen  [2]fileState
}

// fileState changes when a file is written or replaced.
type fileState struct {
	written time.Time
	size    int64
}

func newResolvers(cfg Config) *resolvers {
	r := &resolvers{conf: cfg.ResolvConf, stub: StubResolvConf, dial: new(net.Dialer).DialContext, known: make(map[netip.AddrPort]*upstream)}
	if r.conf == "" {
		r.conf = defaultResolvConf
	}
	if len(cfg.Upstreams) > 0 {
		r.fixed = true
		r.use(cfg.Upstreams)
	}
	return r
}

// current returns the upstreams in order of preference of who wrote them. A
// file that cannot be read, as while it is being replaced, changes nothing.
func (r *resolvers) current() []*upstream {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fixed || time.Since(r.look) < lookEvery {
		return r.list
	}
	r.look = time.Now()
	state := [2]fileState{stateOf(r.conf), stateOf(r.stub)}
	if state == r.seen && state[0] != (fileState{}) {
		return r.list
	}
	servers, err := hostServers(r.conf, r.stub)
	if r.err = err; err == nil {
		r.use(servers)
		r.seen = state
	}
	return r.list
}

func (r *resolvers) use(servers []netip.AddrPort) {
	r.list = nil
	for _, a := range servers[:min(len(servers), maxUpstreams)] {
		if r.known[a] == nil {
			r.known[a] = &upstream{addr: a, dial: r.dial, asked: time.Now()}
		}
		r.list = append(r.list, r.known[a])
	}
}

// named reports whether the servers were chosen for this program, and are not just
// those that the host has.
func (r *resolvers) named() bool { return r.fixed || r.conf != defaultResolvConf }

func stateOf(file string) fileState {
	info, err := os.Stat(file)
	if err != nil {
		return fileState{}
	}
	return fileState{info.ModTime(), info.Size()}
}
