package api

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"
)

// refuseBrowsers turns away what only a browser sends, should something ever
// put the socket behind a port: a page's script cannot leave out Origin, and a
// name that was rebound to us stands in Host.
func refuseBrowsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Origin") != "":
			fail(w, Errorf(KindPermission, "request from %s: web pages may not call the agent", r.Header.Get("Origin")))
		case !ownHost(r.Host):
			fail(w, Errorf(KindPermission, "request for host %q: this is agentd, call it as http://agentd/", r.Host))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether h, the Host of a request, can mean this agent.
// HTTP/1.0 sends none.
func ownHost(h string) bool {
	if name, _, err := net.SplitHostPort(h); err == nil {
		h = name
	}
	switch strings.ToLower(h) {
	case "", "agentd", "localhost", "unix":
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(h, "[]"))
	return err == nil && a.IsLoopback()
}

// logged writes each call to the log at debug, and answers 500 to one that
// panicked: one bad call must not look like a dead agent.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			if p := recover(); p != nil {
				log.Error("api call panicked", "method", r.Method, "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
				fail(seen, Errorf(KindFailed, "%s %s: the agent has a bug here; its log has the details", r.Method, r.URL.Path))
			}
			args := []any{"method", r.Method, "path", r.URL.Path, "status", seen.code, "took", time.Since(start)}
			if p, ok := peerOf(r.Context()); ok {
				args = append(args, "uid", p.uid, "pid", p.pid)
			}
			log.Debug("api call", args...)
		}()
		next.ServeHTTP(seen, r)
	})
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
