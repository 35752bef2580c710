package pool_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool"
)

// answering is a server that gives one answer to everything.
func answering(t *testing.T, code int, kind, text string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What answers in Consul's place is named, with its address and what it said, and is
// never taken for an empty store or for a write that was done.
func TestAnswersThatAreNotConsuls(t *testing.T) {
	for name, tt := range map[string]struct {
		code       int
		kind, text string
		want       string
	}{
		"a page":              {200, "text/html", "<!DOCTYPE html>\n<title>Login</title>", "answers 200 OK (<!DOCTYPE html> <title>Login</title>)"},
		"a missing page":      {404, "text/html", "<h1>Not Found</h1>", "answers 404 Not Found (<h1>Not Found</h1>)"},
		"an empty 404":        {404, "text/plain", "", "answers 404 Not Found:"},
		"null":                {200, "application/json", "null", "answers 200 OK (null)"},
		"an empty object":     {200, "application/json", "{}", "answers 200 OK ({})"},
		"an empty answer":     {200, "application/json", "", "answers 200 OK:"},
		"a list of something": {200, "application/json", "[1, 2]", "answers with something else"},
		"half a list":         {200, "application/json", `[{"Key":"x"`, "answers with something else"},
		"not here":            {405, "text/plain", "method not allowed", "answers 405 Method Not Allowed (method not allowed)"},
		"moved nowhere":       {501, "text/plain", "", "answers 501 Not Implemented"},
		"null in a list":      {200, "application/json", "[null]", "answers 200 OK ([null])"},
	} {
		t.Run(name, func(t *testing.T) {
			url := answering(t, tt.code, tt.kind, tt.text)
			c := unmade(store{url: url})
			p := c.open(t, nil)
			start := time.Now()
			for what, err := range map[string]error{
				"meta":   func() error { _, err := p.Meta(t.Context()); return err }(),
				"init":   p.Init(t.Context(), c.meta, host("one", 1)),
				"hosts":  func() error { _, err := p.Hosts(t.Context()); return err }(),
				"create": func() error { _, err := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "x"}); return err }(),
			} {
				if !errors.Is(err, pool.ErrNotConsul) || !strings.Contains(err.Error(), "Consul at "+url) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: got %v, want that it is not Consul's", what, err)
				}
				if what == "meta" && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v: nothing is to be waited for", took)
			}
			if err := p.Healthy(); !errors.Is(err, pool.ErrNotConsul) {
				t.Errorf("healthy: %v", err)
			}
		})
	}
}

// Of several servers one that answers is found, for reads, writes and the watch.
func TestSeveralServers(t *testing.T) {
	real := discoverytest.StartConsul(t, discoverytest.ConsulConfig{})
	target, err := url.Parse(real.URL)
	if err != nil {
		t.Fatal(err)
	}
	first := httptest.NewServer(httputil.NewSingleHostReverseProxy(target))
	t.Cleanup(first.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	c := newCluster(t, store{url: real.URL})
	p := c.open(t, func(cfg *pool.Config) {
		cfg.Address = strings.Join([]string{first.URL, "http://" + silent.Addr().String(), answering(t, 200, "text/html", "<html>"), real.URL}, ",")
	})
	w := watch(t, p)
	c.network(t, "blue")
	w.until("blue", has(1))
	first.CloseClientConnections()
	first.Close()
	start := time.Now()
	if _, err := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "red"}); err != nil {
		t.Errorf("after the first server died: %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	w.until("red", has(2))
	if err := p.Healthy(); err != nil {
		t.Errorf("healthy: %v", err)
	}
}

// The address is changed while the watch runs.
func TestAnotherAddress(t *testing.T) {
	real := discoverytest.StartConsul(t, discoverytest.ConsulConfig{})
	c := newCluster(t, store{url: real.URL})
	var asked atomic.Bool
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Store(true)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(dead.Close)
	p := c.open(t, func(cfg *pool.Config) { cfg.Address = dead.URL })
	w := watch(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Networks(ctx); !errors.Is(err, pool.ErrUnavailable) || !asked.Load() {
		t.Errorf("got %v", err)
	}
	if err := p.UseAddress(real.URL); err != nil {
		t.Fatal(err)
	}
	c.network(t, "blue")
	w.until("blue", has(1))
	if err := p.UseAddress("http://a b"); err == nil {
		t.Error("no address, and no error")
	}
	embedded := newCluster(t, embeddedStore(t))
	if err := embedded.first.UseAddress(real.URL); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("the embedded store has an address: %v", err)
	}
}
