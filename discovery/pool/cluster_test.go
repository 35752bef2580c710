package pool_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/pool/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is where the pools of a test keep their keys.
type store struct {
	url    string
	client func() *http.Client // nil: the network
	token  string
}

// stores are the kinds of store on which every test of the pool runs.
func stores(t *testing.T, run func(*testing.T, store)) {
	t.Run("embedded", func(t *testing.T) { run(t, embeddedStore(t)) })
	t.Run("consul", func(t *testing.T) {
		run(t, store{url: discoverytest.StartConsul(t, discoverytest.ConsulConfig{}).URL})
	})
}

func embeddedStore(t testing.TB) store {
	t.Helper()
	s := embedded.New(embedded.Config{File: filepath.Join(t.TempDir(), "store.db"), Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return store{url: "http://store", client: s.Client}
}

var quiet = slog.New(slog.DiscardHandler)

// cluster is a cluster with keys of its own in a store.
type cluster struct {
	store
	prefix string
	meta   pool.Meta
	first  *pool.Pool
	one    pool.Host
}

func newID() (id [16]byte) {
	rand.Read(id[:])
	return id
}

// newCluster makes a cluster whose first host is "one".
func newCluster(t testing.TB, s store) *cluster {
	t.Helper()
	c := unmade(s)
	c.first = c.open(t, nil)
	c.one = host("one", 1)
	if err := c.first.Init(t.Context(), c.meta, c.one); err != nil {
		t.Fatal(err)
	}
	return c
}

func unmade(s store) *cluster {
	id := newID()
	return &cluster{store: s, prefix: fmt.Sprintf("weft-t-%x/v1/", id[:6]), meta: pool.Meta{
		ClusterID: fmt.Sprintf("%x", id), CreatedBy: "one", Domain: "weft.internal",
		Pool: netip.MustParsePrefix("10.64.0.0/10"), TunnelPort: 4799, GossipPort: 4798, Profile: "lan",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
}

// open returns another agent's pool.
func (c *cluster) open(t testing.TB, change func(*pool.Config)) *pool.Pool {
	t.Helper()
	cfg := pool.Config{Address: c.url, Prefix: c.prefix, Token: c.token, Log: quiet}
	if c.client != nil {
		cfg.HTTPClient = c.client()
	}
	if change != nil {
		change(&cfg)
	}
	p, err := pool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func host(name string, n byte) pool.Host {
	addr := netip.AddrFrom4([4]byte{192, 0, 2, n})
	return pool.Host{ID: newID(), Name: name, Nonce: uint64(n), VTEP: addr, Gossip: netip.AddrPortFrom(addr, 4798),
		Version: "0.1.0", Incarnation: 1, Joined: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// member registers another host, with a pool of its own.
func (c *cluster) member(t testing.TB, name string, n byte) (*pool.Pool, pool.Host) {
	t.Helper()
	p, h := c.open(t, nil), host(name, n)
	if err := p.Register(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	return p, h
}

// network makes a network.
func (c *cluster) network(t testing.TB, name string, subnets ...string) discovery.Network {
	t.Helper()
	n, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{Name: name, Subnets: subnets, Driver: "weft", By: "root@one"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// claim takes a block that must be there.
func claim(t testing.TB, p *pool.Pool, n discovery.Network, h pool.Host) discovery.Block {
	t.Helper()
	b, err := p.ClaimBlock(t.Context(), n, h.ID, h.Nonce, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raw makes one request to the store, past the pool.
func (c *cluster) raw(t testing.TB, method, key, query, body string) []byte {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if c.client != nil {
		client = c.client()
	}
	req, err := http.NewRequest(method, c.url+"/v1/kv/"+c.prefix+key+"?"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", c.token)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			return out
		}
	}
}

// fields reads a value as it stands in the store.
func (c *cluster) fields(t testing.TB, key string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := json.Unmarshal(c.raw(t, "GET", key, "raw", ""), &out); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return out
}

// wipe empties the store.
func (c *cluster) wipe(t testing.TB) {
	t.Helper()
	c.raw(t, "DELETE", "", "recurse", "")
}
