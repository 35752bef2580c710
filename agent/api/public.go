package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	connsOfCaller = 16               // connections of one user, or one machine
	turns         = 2                // calls that cost something, at a time
	writeTimeout  = 30 * time.Second // for a public call, until its caller has the answer
)

// costly are the public calls that read the kernel, or all that this host knows.
var costly = map[string]bool{"/readyz": true, "/v1/status": true, "/v1/verify": true, "/v1/metrics": true}

// ServePublic is Serve on a socket that every user of the host can open: it answers
// what is public, and nothing else to anybody. No user can keep the agent from its
// work by asking: a user has a few connections, and calls that cost something take
// turns.
func ServePublic(ctx context.Context, l net.Listener, s Service, log *slog.Logger) error {
	srv := server(logged(log, refuseBrowsers(inTurn(restrict(calls(s))))), log)
	srv.WriteTimeout = writeTimeout
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		p, _ := peerCredentials(c.(*counted).Conn, -1)
		p.trusted, p.reads = false, true
		return context.WithValue(ctx, peerKey{}, p)
	}
	return run(ctx, srv, &fair{Listener: l, who: userOf, open: map[any]int{}})
}

// ServeMetrics answers GET /metrics and /healthz on l, which anybody may reach whom the
// operator lets: nothing of it can be changed by asking.
func ServeMetrics(ctx context.Context, l net.Listener, s Service, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", metrics(s))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, health{State: CheckOK}) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		failAs(w, http.StatusNotFound, Errorf(KindMisuse, "%s %s: here are /metrics and /healthz", r.Method, r.URL.Path))
	})
	only := make(chan struct{}, turns)
	srv := server(logged(log, refuseOrigin(taking(only, mux))), log)
	srv.ReadTimeout, srv.WriteTimeout = bodyTime, writeTimeout
	return run(ctx, srv, &fair{Listener: l, who: machineOf, open: map[any]int{}})
}

// refuseOrigin turns away a page's script, which cannot leave out Origin. Host is
// whatever the scraper calls this machine.
func refuseOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o := r.Header.Get("Origin"); o != "" {
			fail(w, Errorf(KindPermission, "request from %s: web pages may not call the agent", o))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// inTurn has the costly calls wait for each other.
func inTurn(next http.Handler) http.Handler {
	queued := taking(make(chan struct{}, turns), next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if costly[r.URL.Path] {
			queued.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// taking has each call hold one of slots.
func taking(slots chan struct{}, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// fair accepts a few connections of each caller, and closes the others at once.
type fair struct {
	net.Listener
	who  func(net.Conn) any
	mu   sync.Mutex
	open map[any]int // by caller
}

// userOf is who connected to a unix socket.
func userOf(c net.Conn) any {
	p, _ := peerCredentials(c, -1)
	return p.uid
}

// machineOf is who connected to a port.
func machineOf(c net.Conn) any {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}

// Accept implements net.Listener.
func (f *fair) Accept() (net.Conn, error) {
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := f.who(c)
		one := &counted{Conn: c, closed: sync.OnceFunc(func() { f.count(who, -1) })}
		if f.count(who, 1) <= connsOfCaller {
			return one, nil
		}
		_ = one.Close()
	}
}

// count changes how many connections a caller has, and returns how many they are.
func (f *fair) count(who any, by int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.open[who] + by
	if f.open[who] = n; n == 0 {
		delete(f.open, who)
	}
	return n
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}
