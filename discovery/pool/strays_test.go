package pool_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
)

// ledger is where a pool says what it refuses.
func ledger() *strict.Ledger {
	return strict.NewLedger(slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
}

// sources are the keys that are refused, without the prefix.
func (c *cluster) sources(l *strict.Ledger) (keys []string) {
	all, _ := l.All()
	for _, r := range all {
		keys = append(keys, strings.TrimPrefix(r.Source, "key "+c.prefix))
	}
	return keys
}

// untilRefused waits until the keys that are refused are as wanted.
func (c *cluster) untilRefused(t *testing.T, l *strict.Ledger, what string, want func([]string) bool) {
	t.Helper()
	for late := time.Now().Add(15 * time.Second); !want(c.sources(l)); {
		if pace.Sleep(t.Context(), 5*time.Millisecond); time.Now().After(late) {
			t.Fatalf("refused: %q, want %s", c.sources(l), what)
		}
	}
}

// What a person, Consul's UI or another program leaves among our keys stops nobody.
func TestKeysThatAreNotOursArePassedOver(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		c := newCluster(t, s)
		l := ledger()
		p := c.open(t, func(cfg *pool.Config) { cfg.Refused = l })
		n := c.network(t, "blue", "10.80.0.0/24")
		two := host("two", 2)
		if err := p.Register(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		b := claim(t, p, n, two)
		id := discovery.HostID{9}.String()
		junk := "0a500080-29" // a block that nobody holds
		if b.Prefix == netip.MustParsePrefix("10.80.0.128/29") {
			junk = "0a500088-29"
		}
		strays := []string{"nets/", "nets/README", "nets/red", "nets/Blue", "nets/a/b", "netgone/", "netgone/x", "gone/", "gone/x", "gone/" + id,
			"hosts/", "hosts/x", "hosts/" + id, "blocks/", "blocks/" + n.ID.String() + "/", "blocks/" + n.ID.String() + "/0A500000-29",
			"blocks/" + n.ID.String() + "/" + junk, "blocks/" + n.ID.String() + "/0a000000-8", "ips/", "ips/" + n.ID.String() + "/",
			"ips/" + n.ID.String() + "/0a500007", "ips/x/y", "gen"}
		for _, key := range strays {
			c.raw(t, "PUT", key, "", "not ours")
		}
		c.raw(t, "PUT", "blocks/"+n.ID.String()+"/0a000000-8", "", `{"host":"`+c.one.ID.String()+`","state":"active","seq":1}`)
		w := watch(t, p)
		w.until("blue alone", func(got pool.Contents) bool {
			return slices.Equal(names(got), []string{"blue"}) && len(got.Gone) == 0 && len(got.NetGone) == 0
		})
		c.everyReader(t, p, n, two, b)
		got := c.sources(l)
		for _, key := range strays {
			if key != "gen" && !slices.Contains(got, key) {
				t.Errorf("%s is not named in %q", key, got)
			}
		}
		c.hints(t, l)
		for _, key := range strays {
			c.raw(t, "DELETE", key, "", "")
		}
		watched := func(key string) bool {
			return strings.HasPrefix(key, "nets/") || strings.HasPrefix(key, "gone/") || strings.HasPrefix(key, "netgone/")
		}
		c.untilRefused(t, l, "nothing of what is watched", func(keys []string) bool { return !slices.ContainsFunc(keys, watched) })
	})
}

// everyReader does all that hosts do with a store, from create to leave.
func (c *cluster) everyReader(t *testing.T, p *pool.Pool, n discovery.Network, two pool.Host, b discovery.Block) {
	t.Helper()
	do := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	made, err := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "green2"})
	do("create", err)
	do("create with a junk gen", strict.Network(made))
	hosts, err := p.Hosts(t.Context())
	if do("hosts", err); len(hosts) != 2 {
		t.Errorf("hosts: %v, want two", hosts)
	}
	blocks, err := p.Blocks(t.Context(), n)
	if do("blocks", err); len(blocks) != 1 || blocks[0].Prefix != b.Prefix {
		t.Errorf("blocks: %v, want %s alone", blocks, b.Prefix)
	}
	reserved, err := p.Reserved(t.Context(), n.ID, n.Subnets[0].CIDR)
	if do("reserved", err); len(reserved) != 0 {
		t.Errorf("reserved: %v", reserved)
	}
	_, err = p.Fence(t.Context(), "nobody", "root")
	if err == nil || strings.Contains(err.Error(), "key") {
		t.Errorf("fence of nobody: %v", err)
	}
	do("join", p.Register(t.Context(), host("three", 3)))
	do("write back", p.Reassert(t.Context(), c.meta, two, []discovery.Network{n, made}, blocks))
	do("leave", p.Unregister(t.Context(), two.ID, "two"))
	for _, n := range []discovery.Network{n, made} {
		_, err = p.DeleteNetwork(t.Context(), n.Name, "root", false)
		do("rm", err)
		done, err := p.FinishDelete(t.Context(), n, "root")
		if do("rm", err); !done {
			t.Errorf("%s is held by somebody", n.Name)
		}
	}
}

// hints checks that the lines of the ledger name each key whole.
func (c *cluster) hints(t *testing.T, l *strict.Ledger) {
	t.Helper()
	all, _ := l.All()
	for _, r := range all {
		key := strings.TrimPrefix(r.Source, "key ")
		switch {
		case c.client == nil && r.Hint != "consul kv delete -http-addr="+c.url+" "+key:
			t.Errorf("%s: hint %q", key, r.Hint)
		case strings.Contains(r.Hint, "recurse"):
			t.Errorf("%s: hint %q deletes more than the key", key, r.Hint)
		}
	}
}

// A network whose key holds something else is not made: the error says which line
// deletes it.
func TestANameThatIsHeldByJunk(t *testing.T) {
	c := newCluster(t, store{url: discoverytest.StartConsul(t, discoverytest.ConsulConfig{}).URL})
	c.raw(t, "PUT", "nets/blue", "", "[]")
	_, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "blue"})
	refused, ok := errors.AsType[strict.Refused](err)
	if !ok || refused.Hint != "consul kv delete -http-addr="+c.url+" "+c.prefix+"nets/blue" {
		t.Errorf("got %v, want the key and the line that deletes it", err)
	}
}

// Values are checked as strictly as a request, whoever wrote them.
func TestValuesThatNoAgentWrote(t *testing.T) {
	c := newCluster(t, embeddedStore(t))
	n := c.network(t, "blue", "10.80.0.0/24")
	l := ledger()
	w := watch(t, c.open(t, func(cfg *pool.Config) { cfg.Refused = l }))
	w.until("blue", has(1))
	put := func(key string, change func(*discovery.Network)) {
		m := n
		m.ID, m.VNI = newID(), 5000
		m.Subnets = []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.81.0.0/24"), Gateway: netip.MustParseAddr("10.81.0.1"), Bits: 3}}
		change(&m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		c.raw(t, "PUT", "nets/"+key, "", string(b))
	}
	put("..%2f..%2ftmp%2fx", func(m *discovery.Network) { m.Name = "../../tmp/x" })
	put("x1", func(m *discovery.Network) { m.Name = "../../tmp/x" })
	put("x2", func(m *discovery.Network) { m.Name = "x\nnameserver 192.0.2.66" })
	put("x3", func(m *discovery.Network) { m.Name, m.VNI = "x3", 1<<32-1 })
	put("x4", func(m *discovery.Network) { m.Name, m.MTU = "x4", -5 })
	put("x5", func(m *discovery.Network) { m.Name, m.Subnets[0].Gateway = "x5", netip.MustParseAddr("10.99.0.1") })
	put("x6", func(m *discovery.Network) { m.Name, m.Subnets[0].Bits = "x6", 24 })
	put("last", func(m *discovery.Network) { m.Name = "last" })
	got := w.until("the last", has(2))
	if !slices.Equal(names(got), []string{"blue", "last"}) {
		t.Errorf("got %q", names(got))
	}
	c.untilRefused(t, l, "each of the seven", func(keys []string) bool { return len(keys) == 7 })
}

// One form of a key: a second one would be a second claim of one block.
func TestKeysHaveOneForm(t *testing.T) {
	c := newCluster(t, embeddedStore(t))
	n := c.network(t, "blue", "10.80.0.0/24")
	b := claim(t, c.first, n, c.one)
	for _, key := range []string{"blocks/" + strings.ToUpper(n.ID.String()) + "/0a500000-29", "blocks/" + n.ID.String() + "/0A500000-29"} {
		c.raw(t, "PUT", key, "", `{"host":"`+c.one.ID.String()+`"}`)
	}
	all, err := c.first.Blocks(t.Context(), n)
	if err != nil || len(all) != 1 || all[0].Prefix != b.Prefix {
		t.Errorf("got %v (%v), want %s alone", all, err, b.Prefix)
	}
}

// A network whose key somebody deleted is written back, over the key of its VNI that
// was left, and nothing of it is given to another meanwhile.
func TestANetworkWhoseKeyWasDeleted(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		c := newCluster(t, s)
		blue := c.network(t, "blue")
		gone := c.network(t, "gone")
		if _, err := c.first.DeleteNetwork(t.Context(), "gone", "root", false); err != nil {
			t.Fatal(err)
		}
		if _, err := c.first.FinishDelete(t.Context(), gone, "root"); err != nil {
			t.Fatal(err)
		}
		c.raw(t, "DELETE", "nets/blue", "", "")
		far := pool.Carried{Host: "far", Network: discovery.Network{ID: newID(), VNI: gone.VNI + 1,
			Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.64.32.0/26")}}}}
		spec := pool.NetworkSpec{Name: "red", Carried: []pool.Carried{{Network: blue, Host: "one"}, {Network: gone, Host: "one"}, far}}
		red, err := c.first.CreateNetwork(t.Context(), spec)
		if err != nil || red.VNI <= far.VNI || red.Subnets[0].CIDR.String() != "10.64.16.0/20" {
			t.Errorf("got %+v (%v), want the subnet of the deleted one, and a VNI of its own", red, err)
		}
		spec.Name, spec.Subnets = "green", []string{blue.Subnets[0].CIDR.String()}
		_, err = c.first.CreateNetwork(t.Context(), spec)
		if over, ok := errors.AsType[*pool.OverlapError](err); !ok || over.With != "network blue, which host one carries" {
			t.Errorf("its subnet: got %v, want that it is carried", err)
		}
		spec.Name, spec.Subnets = "blue", nil
		if _, err = c.first.CreateNetwork(t.Context(), spec); !errors.Is(err, pool.ErrExists) {
			t.Errorf("its name: got %v, want ErrExists", err)
		}
		for range 2 {
			if err := c.first.Reassert(t.Context(), c.meta, c.one, []discovery.Network{blue, red}, nil); err != nil {
				t.Error(err)
			}
		}
		all, err := c.first.Networks(t.Context())
		if err != nil || len(all) != 2 || all[0].ID != blue.ID {
			t.Errorf("got %v (%v), want blue again, beside red", all, err)
		}
		other := blue
		other.ID, other.Name = newID(), "other"
		if err := c.first.Reassert(t.Context(), c.meta, c.one, []discovery.Network{other}, nil); !errors.Is(err, pool.ErrConflict) ||
			!strings.Contains(err.Error(), "network blue") {
			t.Errorf("a VNI that another network has: got %v, want a conflict that names it", err)
		}
	})
}

// What is wrong with the record of the cluster is known at once, with what was found
// and what was expected, and nothing is read beside it.
func TestTheRecordOfTheCluster(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		for name, tt := range map[string]struct {
			change func(c *cluster)
			want   []string
		}{
			"junk":    {func(c *cluster) { c.raw(t, "PUT", "meta", "", "junk") }, []string{"meta", `"junk"`}},
			"null":    {func(c *cluster) { c.raw(t, "PUT", "meta", "", "null") }, []string{"meta", `"null"`}},
			"a line":  {func(c *cluster) { c.badDomain(t) }, []string{"meta", "no DNS label"}},
			"wiped":   {func(c *cluster) { c.wipe(t) }, []string{"no cluster"}},
			"deleted": {func(c *cluster) { c.raw(t, "DELETE", "meta", "", "") }, []string{"no cluster"}},
			"another": {func(c *cluster) {
				c.raw(t, "PUT", "meta", "", `{"schema":1,"cluster_id":"ffff","domain":"x","pool":"10.64.0.0/10","profile":"lan","gossip_port":1,"tunnel_port":2}`)
			}, []string{"another cluster", "ffff"}},
		} {
			t.Run(name, func(t *testing.T) {
				c := newCluster(t, s)
				p := c.open(t, func(cfg *pool.Config) { cfg.Cluster = c.meta.ClusterID })
				n := c.network(t, "blue")
				w := watch(t, p)
				w.until("blue", has(1))
				tt.change(c)
				start := time.Now()
				for p.Healthy() == nil {
					if pace.Sleep(t.Context(), time.Millisecond); time.Since(start) > 2*time.Second {
						t.Fatal("the store is healthy")
					}
				}
				err := p.Healthy()
				for _, want := range append(tt.want, c.meta.ClusterID) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %v, want it to say %s", err, want)
					}
				}
				if _, err := p.Networks(t.Context()); err == nil {
					t.Error("networks are read")
				}
				if _, err := p.Blocks(t.Context(), n); err == nil {
					t.Error("blocks are read")
				}
			})
		}
	})
}

// badDomain makes the domain of the cluster two lines of a resolv.conf.
func (c *cluster) badDomain(t *testing.T) {
	m := c.fields(t, "meta")
	m["domain"] = "weft.internal\nnameserver 192.0.2.66"
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c.raw(t, "PUT", "meta", "", string(b))
}

// Who waits for the end of a network asks a few times, not a hundred times a second.
func TestTheEndOfANetworkIsAwaited(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		c := newCluster(t, s)
		p, two := c.member(t, "two", 2)
		n := c.network(t, "blue")
		b := claim(t, p, n, two)
		if _, err := c.first.Reserve(t.Context(), n, netip.MustParseAddr("10.64.15.7"), c.one.ID, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.first.DeleteNetwork(t.Context(), "blue", "root", false); err != nil {
			t.Fatal(err)
		}
		free := make(chan error, 1)
		go func() { free <- c.first.AwaitFree(t.Context(), n) }()
		select {
		case err := <-free:
			t.Fatalf("free at once: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		if err := p.ReleaseBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := c.first.Unreserve(t.Context(), n.ID, netip.MustParseAddr("10.64.15.7"), c.one.ID); err != nil {
			t.Fatal(err)
		}
		if err := <-free; err != nil {
			t.Error(err)
		}
		if done, err := c.first.FinishDelete(t.Context(), n, "root"); !done || err != nil {
			t.Errorf("then: %t, %v", done, err)
		}
	})
}

// Two hosts whose names differ in case alone would have one name in DNS.
func TestHostNamesAreComparedWithoutCase(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		c := newCluster(t, s)
		_, two := c.member(t, "db1", 2)
		err := c.first.Register(t.Context(), host("DB1", 3))
		if taken, ok := errors.AsType[*pool.NameTakenError](err); !ok || taken.Host.ID != two.ID {
			t.Errorf("got %v, want that host db1 has the name", err)
		}
		// The key of an earlier release is spelled like the name.
		c.raw(t, "PUT", "names/Web", "", c.one.ID.String())
		old := host("Web", 4)
		c.raw(t, "DELETE", "names/web", "", "")
		if err := c.first.Register(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if err := c.first.Register(t.Context(), host("wEB", 5)); !errors.Is(err, pool.ErrNameTaken) {
			t.Errorf("got %v, want ErrNameTaken", err)
		}
		if h, err := c.first.Fence(t.Context(), "WEB", "root"); err != nil || h.ID != old.ID {
			t.Errorf("fenced %v (%v), want the host Web", h, err)
		}
	})
}
