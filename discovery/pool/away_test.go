package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool"
)

func TestStoreIsToldTheRelease(t *testing.T) {
	said := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case said <- r.UserAgent():
		default: // a call that is tried again
		}
	}))
	t.Cleanup(s.Close)
	p, err := pool.New(pool.Config{Address: s.URL, UserAgent: "weft/v0.1.0", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	_, _ = p.Meta(t.Context())
	if got := <-said; got != "weft/v0.1.0" {
		t.Errorf("User-Agent %q", got)
	}
}

// calls are all methods that ask the store.
func calls(p *pool.Pool, c *cluster, n discovery.Network) map[string]func(context.Context) error {
	a := netip.MustParseAddr("10.80.0.77")
	b := discovery.Block{Network: n.ID, Prefix: netip.MustParsePrefix("10.80.0.8/29"), Host: c.one.ID, Index: 1}
	return map[string]func(context.Context) error{
		"Meta":       func(ctx context.Context) error { _, err := p.Meta(ctx); return err },
		"Init":       func(ctx context.Context) error { return p.Init(ctx, c.meta, c.one) },
		"Adopt":      func(ctx context.Context) error { _, err := p.Adopt(ctx, c.meta, host("x", 9)); return err },
		"Hosts":      func(ctx context.Context) error { _, err := p.Hosts(ctx); return err },
		"Register":   func(ctx context.Context) error { return p.Register(ctx, host("x", 9)) },
		"Unregister": func(ctx context.Context) error { return p.Unregister(ctx, c.one.ID, "one") },
		"Fence":      func(ctx context.Context) error { _, err := p.Fence(ctx, "one", "x"); return err },
		"FenceLost":  func(ctx context.Context) error { return p.FenceLost(ctx, newID(), "x", "y") },
		"FreeHeld":   func(ctx context.Context) error { _, _, err := p.FreeHeld(ctx, c.one.ID); return err },
		"Networks":   func(ctx context.Context) error { _, err := p.Networks(ctx); return err },
		"Create": func(ctx context.Context) error {
			_, err := p.CreateNetwork(ctx, pool.NetworkSpec{Name: "x"})
			return err
		},
		"Delete":      func(ctx context.Context) error { _, err := p.DeleteNetwork(ctx, n.Name, "x", false); return err },
		"Finish":      func(ctx context.Context) error { _, err := p.FinishDelete(ctx, n, "x"); return err },
		"FreeNetwork": func(ctx context.Context) error { return p.FreeNetworkHeld(ctx, n, c.one.ID) },
		"ClaimBlock": func(ctx context.Context) error {
			_, err := p.ClaimBlock(ctx, n, c.one.ID, 1, false, nil)
			return err
		},
		"ReleaseBlock": func(ctx context.Context) error { return p.ReleaseBlock(ctx, b) },
		"Blocks":       func(ctx context.Context) error { _, err := p.Blocks(ctx, n); return err },
		"BlockAt":      func(ctx context.Context) error { _, _, err := p.BlockAt(ctx, n, a); return err },
		"Reserve":      func(ctx context.Context) error { _, err := p.Reserve(ctx, n, a, c.one.ID, nil); return err },
		"Unreserve":    func(ctx context.Context) error { return p.Unreserve(ctx, n.ID, a, c.one.ID) },
		"Reserved":     func(ctx context.Context) error { _, err := p.Reserved(ctx, n.ID, b.Prefix); return err },
		"ReassertAddrs": func(ctx context.Context) error {
			return p.ReassertAddrs(ctx, c.one, []discovery.Network{n}, []discovery.ReservedAddr{{Network: n.ID, Addr: a, Seq: 1}})
		},
		"Reassert": func(ctx context.Context) error { return p.Reassert(ctx, c.meta, c.one, nil, []discovery.Block{b}) },
	}
}

// allFail runs all methods at once and holds them to one error and to their
// deadline.
func allFail(t *testing.T, p *pool.Pool, c *cluster, n discovery.Network, want error) {
	t.Helper()
	var wg sync.WaitGroup
	for name, call := range calls(p, c, n) {
		wg.Go(func() {
			start := time.Now()
			err := call(t.Context())
			if !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", name, err, want)
			}
			if text := fmt.Sprint(err); strings.Contains(text, "/v1/kv") {
				t.Errorf("%s: the error shows the request: %s", name, text)
			}
			if took := time.Since(start); took > 6*time.Second {
				t.Errorf("%s took %v, want 5 s at most", name, took)
			}
		})
	}
	wg.Wait()
	if err := p.Healthy(); !errors.Is(err, want) {
		t.Errorf("healthy: %v, want %v", err, want)
	}
}

func TestStoreAway(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
		<-r.Context().Done()
	}
	fails := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "No cluster leader", 500) }
	breaks := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		if r.URL.Path == "/v1/txn" {
			w.Write([]byte(`{"Results":`))
			return
		}
		w.Write([]byte(`[{"Key":`))
	}
	for name, handler := range map[string]http.HandlerFunc{"hangs": hangs, "has no leader": fails, "breaks off": breaks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			defer server.Close()
			c := unmade(store{url: server.URL})
			p := c.open(t, nil)
			defer p.Close()
			allFail(t, p, c, discovery.Network{Name: "blue", Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.80.0.0/24"), Bits: 3}}}, pool.ErrUnavailable)
		})
	}
}

func TestCancelledCallEndsAtOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	p := unmade(store{url: server.URL}).open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	_, err := p.Hosts(ctx)
	if !errors.Is(err, context.Canceled) || time.Since(start) > 2*time.Second {
		t.Errorf("got %v after %v, want context.Canceled at once", err, time.Since(start))
	}
	if err := p.Healthy(); err != nil {
		t.Errorf("healthy: %v, want nil: the store is not to blame", err)
	}
	defer p.Close()
}

// lossy answers nothing to every n-th call, half of them after it was done.
type lossy struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	switch l.n.Add(1) % 6 {
	case 2:
		r.Body.Close()
		return nil, errors.New("lost on the way there")
	case 5:
		resp, err := l.next.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		return nil, errors.New("lost on the way back")
	}
	return l.next.RoundTrip(r)
}

func TestLostAnswersLoseNothing(t *testing.T) {
	s := embeddedStore(t)
	inner := s.client()
	s.client = func() *http.Client { return &http.Client{Transport: bodies{&lossy{next: inner.Transport}}} }
	c := newCluster(t, s)
	n := c.network(t, "blue", "10.80.0.0/20")
	got := map[netip.Prefix]bool{}
	for range 20 {
		b, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, false, func(b netip.Prefix) bool { return got[b] })
		if err != nil {
			t.Fatal(err)
		}
		got[b.Prefix] = true
		c.network(t, fmt.Sprint("n", len(got)))
	}
	blocks, err := c.first.Blocks(t.Context(), n)
	nets, netsErr := c.first.Networks(t.Context())
	if len(blocks) != 20 || len(got) != 20 || len(nets) != 21 {
		t.Errorf("%d blocks claimed, %d in the store (%v), %d networks (%v): want 20, 20, 21", len(got), len(blocks), err, len(nets), netsErr)
	}
}

// bodies gives every request a body, so that a transport may close it.
type bodies struct{ next http.RoundTripper }

func (b bodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	return b.next.RoundTrip(r)
}

func TestPermission(t *testing.T) {
	server := discoverytest.StartConsul(t, discoverytest.ConsulConfig{ACL: true})
	c := newCluster(t, store{url: server.URL, token: server.Token})
	n := c.network(t, "blue", "10.80.0.0/24")
	claim(t, c.first, n, c.one)
	rules := fmt.Sprintf(`key_prefix %q { policy = "write" }`, c.prefix)

	t.Run("without a token", func(t *testing.T) {
		allFail(t, c.open(t, func(cfg *pool.Config) { cfg.Token = "" }), c, n, pool.ErrPermission)
	})
	t.Run("with a token that nobody made", func(t *testing.T) {
		allFail(t, c.open(t, func(cfg *pool.Config) { cfg.Token = "deadbeef-0000-4000-8000-000000000000" }), c, n, pool.ErrPermission)
	})
	t.Run("on a prefix without a cluster", func(t *testing.T) {
		empty := unmade(store{url: server.URL})
		_, err := empty.open(t, nil).Meta(t.Context())
		if !errors.Is(err, pool.ErrPermission) || !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v, want ErrPermission, not ErrNoCluster", err)
		}
	})
	t.Run("with a token that only reads", func(t *testing.T) {
		_, token := server.NewToken(t, fmt.Sprintf(`key_prefix %q { policy = "read" }`, c.prefix))
		p := c.open(t, func(cfg *pool.Config) { cfg.Token = token })
		nets, err := p.Networks(t.Context())
		if err != nil || len(nets) != 1 {
			t.Errorf("read: %v (%v)", nets, err)
		}
		if _, err := p.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil); !errors.Is(err, pool.ErrPermission) {
			t.Errorf("claim: got %v, want ErrPermission", err)
		}
	})
	t.Run("with a token that reads a part", func(t *testing.T) {
		_, token := server.NewToken(t, fmt.Sprintf(`key %q { policy = "write" }`, c.prefix+"meta"))
		p := c.open(t, func(cfg *pool.Config) { cfg.Token = token })
		if nets, err := p.Networks(t.Context()); !errors.Is(err, pool.ErrPermission) {
			t.Errorf("got %v, %v, want ErrPermission: they are hidden, not absent", nets, err)
		}
	})
	for _, folder := range []string{"nets/", "hosts/", "blocks/", "ips/", "names/", "gone/", "netgone/", "gen"} {
		t.Run("with a token that may not see "+folder, func(t *testing.T) { hidden(t, server, c, n, rules, folder) })
	}
	t.Run("with the token in a file, revoked and replaced", func(t *testing.T) { revoked(t, server, c, rules) })
}

// hidden asks with a token that may do everything but see one folder: Consul leaves
// out what is in it and answers as if that were all.
func hidden(t *testing.T, server *discoverytest.Consul, c *cluster, n discovery.Network, rules, folder string) {
	_, token := server.NewToken(t, rules+fmt.Sprintf("\nkey_prefix %q { policy = \"deny\" }", c.prefix+folder))
	p := c.open(t, func(cfg *pool.Config) { cfg.Token = token })
	needs := map[string][]string{
		"nets/":    {"Networks", "Create", "ClaimBlock", "Reserve", "Delete"},
		"hosts/":   {"Hosts", "ClaimBlock", "Reserve", "Register", "Unregister"},
		"blocks/":  {"Blocks", "BlockAt", "ClaimBlock"},
		"ips/":     {"Reserved", "Reserve"},
		"names/":   {"Register", "Fence"},
		"gone/":    {"Register", "FreeHeld"},
		"netgone/": {"Reassert"},
		"gen":      {"Create", "Delete"},
	}[folder]
	all := calls(p, c, n)
	for _, name := range needs {
		if err := all[name](t.Context()); !errors.Is(err, pool.ErrPermission) {
			t.Errorf("%s: got %v, want ErrPermission", name, err)
		}
	}
}

// revoked takes the token away under a running watch and gives another.
func revoked(t *testing.T, server *discoverytest.Consul, c *cluster, rules string) {
	file := t.TempDir() + "/token"
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id, token := server.NewToken(t, rules)
	write(token)
	p := c.open(t, func(cfg *pool.Config) { cfg.Token, cfg.TokenFile = "", file })
	w := watch(t, p)
	w.until("network blue", has(1))

	server.Call(t, http.MethodDelete, "/v1/acl/token/"+id, nil, nil)
	// Consul checks a token when a query begins: one that is under way is still
	// answered at the first change, the next one is not.
	c.network(t, "red")
	for deadline := time.Now().Add(5 * time.Second); !errors.Is(p.Healthy(), pool.ErrPermission); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("healthy: %v, want ErrPermission", p.Healthy())
		}
	}
	c.network(t, "orange")
	w.soon(500*time.Millisecond, "orange")
	c.network(t, "green")
	if w.soon(1500*time.Millisecond, "green") {
		t.Error("the watch goes on without a token")
	}

	_, token = server.NewToken(t, rules)
	write(token)
	w.until("network green", has(4))
	if err := p.Healthy(); err != nil {
		t.Errorf("healthy: %v, want nil", err)
	}
}

// T18: a Consul that keeps nothing on disk comes back empty.
func TestConsulRestartedEmpty(t *testing.T) {
	server := discoverytest.StartConsul(t, discoverytest.ConsulConfig{})
	c := newCluster(t, store{url: server.URL})
	n := c.network(t, "blue")
	b := claim(t, c.first, n, c.one)
	w := watch(t, c.open(t, nil))
	w.until("network blue", has(1))

	server.Kill()
	server.Start(t)
	if _, err := c.first.Meta(t.Context()); !errors.Is(err, pool.ErrNoCluster) {
		t.Fatalf("got %v, want ErrNoCluster", err)
	}
	if err := c.first.Reassert(t.Context(), c.meta, c.one, []discovery.Network{n}, []discovery.Block{b}); err != nil {
		t.Fatal(err)
	}
	m, err := c.first.Meta(t.Context())
	own, ownErr := c.first.Blocks(t.Context(), n)
	if err != nil || m.ClusterID != c.meta.ClusterID || len(own) != 1 || own[0].Prefix != b.Prefix {
		t.Errorf("cluster %s (%v), blocks %v (%v)", m.ClusterID, err, own, ownErr)
	}
	c.network(t, "red")
	w.until("both networks", has(2))
}

func TestLeaderKilledDuringClaims(t *testing.T) {
	servers := discoverytest.StartConsulCluster(t, 3)
	var leader *discoverytest.Consul
	var others []*discoverytest.Consul
	for _, s := range servers {
		if s.Leads(t) {
			leader = s
		} else {
			others = append(others, s)
		}
	}
	c := newCluster(t, store{url: others[0].URL})
	n := c.network(t, "blue", "10.80.0.0/16") // 1024 blocks
	const hosts, each = 20, 10
	var mu sync.Mutex
	owner, unanswered := map[netip.Prefix]discovery.HostID{}, map[discovery.HostID]int{}
	var wg sync.WaitGroup
	var claims atomic.Int32
	killed := make(chan struct{})
	type member struct {
		*pool.Pool
		pool.Host
	}
	var members []member // all of them registered before the leader goes
	for i := range hosts {
		p, h := c.member(t, fmt.Sprint("host", i), byte(i+10))
		members = append(members, member{p, h})
	}
	for _, m := range members {
		p, h := m.Pool, m.Host
		wg.Go(func() {
			for range each {
				b, err := p.ClaimBlock(t.Context(), n, h.ID, h.Nonce, false, nil)
				mu.Lock()
				if errors.Is(err, pool.ErrUnavailable) {
					unanswered[h.ID]++ // the election outlasted the call
				} else if err != nil {
					t.Errorf("%s: %v", h.Name, err)
				} else if other, taken := owner[b.Prefix]; taken {
					t.Errorf("%s for %s and %s", b.Prefix, h.ID, other)
				} else {
					owner[b.Prefix] = h.ID
				}
				mu.Unlock()
				if claims.Add(1) == 60 {
					leader.Kill()
					close(killed)
				}
			}
		})
	}
	wg.Wait()
	<-killed
	t.Logf("%d claims answered, hosts that have some without an answer: %d", len(owner), len(unanswered))
	all, err := c.first.Blocks(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		holder, claimed := owner[b.Prefix]
		delete(owner, b.Prefix)
		switch {
		case claimed && holder != b.Host:
			t.Errorf("%s belongs to %s in the store, %s claimed it", b.Prefix, b.Host, holder)
		case claimed:
		case unanswered[b.Host] > 0:
			unanswered[b.Host]-- // the claim was done, its answer lost: ipam adopts the block
		default:
			t.Errorf("%s belongs to %s in the store, which did not claim it", b.Prefix, b.Host)
		}
	}
	for b, h := range owner {
		t.Errorf("%s was claimed by %s, the store does not have it", b, h)
	}

	t.Run("no quorum", func(t *testing.T) {
		others[1].Kill()
		p := c.open(t, nil)
		start := time.Now()
		if _, err := p.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil); !errors.Is(err, pool.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("took %v, want less than 6 s", took)
		}
		others[1].Start(t)
		for deadline := time.Now().Add(time.Minute); ; {
			_, err := p.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil)
			if err == nil {
				break
			}
			if !errors.Is(err, pool.ErrUnavailable) || time.Now().After(deadline) {
				t.Fatalf("after the quorum is back: %v", err)
			}
		}
	})
}
