package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// stopTime is how long a stopping agent waits for the calls under way.
const stopTime = 3 * time.Second

// Serve answers calls on l, a unix socket, until ctx ends; then it lets the
// calls under way finish for up to three seconds and returns nil. Root, the
// agent's own user and the group that owns the socket may do everything;
// everybody else may read what is public (peer credentials, unix(7)). Serve
// closes l.
func Serve(ctx context.Context, l net.Listener, s Service, log *slog.Logger) error {
	srv := server(logged(log, refuseBrowsers(restrict(calls(s)))), log)
	srv.ConnContext = withPeer(owner(l), log)
	return run(ctx, srv, l)
}

// server bounds what a caller may make the agent wait for and keep.
func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// run has srv answer on l until ctx ends, and closes l.
func run(ctx context.Context, srv *http.Server, l net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv.BaseContext = func(net.Listener) context.Context { return base }
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop(srv, cancel)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// stop ends srv: at first politely, then by ending the calls under way.
func stop(srv *http.Server, cancel context.CancelFunc) {
	ctx, done := context.WithTimeout(context.Background(), stopTime)
	defer done()
	if srv.Shutdown(ctx) != nil {
		cancel()
		srv.Close()
	}
}

// owner is the group that the socket of l belongs to, -1 when it has none.
func owner(l net.Listener) int {
	info, err := os.Stat(l.Addr().String())
	if err != nil {
		return -1
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(st.Gid)
}
