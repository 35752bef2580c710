package pool_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
)

// watcher runs a watch until the test ends.
type watcher struct {
	t    *testing.T
	p    *pool.Pool
	news chan pool.Contents
}

func watch(t *testing.T, p *pool.Pool) *watcher {
	w := &watcher{t, p, make(chan pool.Contents, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Watch(ctx, func(c pool.Contents) []strict.Clash { w.news <- c; return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return w
}

// until returns the first contents that are as wanted.
func (w *watcher) until(what string, want func(pool.Contents) bool) pool.Contents {
	w.t.Helper()
	late := time.After(15 * time.Second)
	for {
		select {
		case c := <-w.news:
			if want(c) {
				return c
			}
		case <-late:
			w.t.Fatalf("the watch never showed %s (%v)", what, w.p.Healthy())
		}
	}
}

// silent fails when there is news.
func (w *watcher) silent(d time.Duration, why string) {
	w.t.Helper()
	select {
	case c := <-w.news:
		w.t.Errorf("%s: the watch delivered %+v", why, c)
	case <-time.After(d):
	}
}

// soon reports whether the network is delivered within d.
func (w *watcher) soon(d time.Duration, network string) bool {
	for over := time.After(d); ; {
		select {
		case c := <-w.news:
			if slices.Contains(names(c), network) {
				return true
			}
		case <-over:
			return false
		}
	}
}

func names(c pool.Contents) (out []string) {
	for _, n := range c.Networks {
		out = append(out, n.Name)
	}
	return out
}

func has(n int) func(pool.Contents) bool {
	return func(c pool.Contents) bool { return len(c.Networks) == n }
}

func TestWatch(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		t.Run("every change is shown, and nothing else", func(t *testing.T) { watched(t, s) })
		t.Run("a wiped store is not an empty one, and is filled again", func(t *testing.T) { wiped(t, s) })
	})
}

func watched(t *testing.T, s store) {
	c := newCluster(t, s)
	w := watch(t, c.open(t, nil))
	w.until("an empty cluster", has(0))

	start := time.Now()
	n := c.network(t, "blue")
	w.until("network blue", has(1))
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a new network was shown after %v, want less than 2 s", took)
	}
	// Neither of these is watched: blocks change too often, and hosts come
	// by gossip.
	_, two := c.member(t, "two", 2)
	claim(t, c.first, n, c.one)
	w.silent(300*time.Millisecond, "a block and a host")

	c.raw(t, "PUT", "nets/broken", "", "not json")
	w.silent(300*time.Millisecond, "a network that cannot be read")
	c.raw(t, "DELETE", "nets/broken", "", "")

	if _, err := c.first.Fence(t.Context(), "two", "root@one"); err != nil {
		t.Fatal(err)
	}
	gone := w.until("host two gone", func(c pool.Contents) bool { return len(c.Gone) == 1 }).Gone[two.ID]
	if gone.Name != "two" || gone.By != "root@one" {
		t.Errorf("got %+v", gone)
	}
	if _, err := c.first.DeleteNetwork(t.Context(), "blue", "root@one", false); err != nil {
		t.Fatal(err)
	}
	w.until("blue deleting", func(c pool.Contents) bool { return c.Networks[0].State == discovery.NetworkDeleting })
	if err := c.first.FreeNetworkHeld(t.Context(), n, c.one.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.first.FinishDelete(t.Context(), n, "root@one"); err != nil {
		t.Fatal(err)
	}
	end := w.until("blue gone", func(c pool.Contents) bool { return len(c.Networks) == 0 && len(c.NetGone) == 1 })
	if g := end.NetGone[n.ID]; g.Name != "blue" || g.By != "root@one" {
		t.Errorf("got %+v", g)
	}
}

// wiped empties the store under three hosts, which fill it again.
func wiped(t *testing.T, s store) {
	c := newCluster(t, s)
	type member struct {
		p      *pool.Pool
		h      pool.Host
		blocks []discovery.Block
	}
	members := []member{{p: c.first, h: c.one}}
	for i, name := range []string{"two", "three"} {
		p, h := c.member(t, name, byte(i+2))
		members = append(members, member{p: p, h: h})
	}
	deleted := c.network(t, "old")
	nets := []discovery.Network{c.network(t, "blue"), c.network(t, "red", "10.80.0.0/16")}
	for i := range members {
		m := &members[i]
		for range 40 {
			m.blocks = append(m.blocks, claim(t, m.p, nets[1], m.h))
		}
	}
	w := watch(t, c.open(t, nil))
	w.until("three networks", has(3))

	c.wipe(t)
	w.silent(1500*time.Millisecond, "wiped")
	if err := w.p.Healthy(); !errors.Is(err, pool.ErrNoCluster) {
		t.Errorf("healthy: %v, want ErrNoCluster", err)
	}
	if _, err := c.first.Networks(t.Context()); !errors.Is(err, pool.ErrNoCluster) {
		t.Errorf("networks of a wiped store: %v, want ErrNoCluster", err)
	}
	if _, err := c.first.ClaimBlock(t.Context(), nets[0], c.one.ID, 1, false, nil); !errors.Is(err, pool.ErrNoCluster) {
		t.Errorf("claim in a wiped store: %v, want ErrNoCluster", err)
	}

	// Somebody deleted network old before anyone put it back.
	c.raw(t, "PUT", "netgone/"+deleted.ID.String(), "", `{"name":"old","vni":4096}`)
	// The last host finds one of its blocks in other hands.
	lost := members[2].blocks[7]
	members[0].blocks = append(members[0].blocks, lost)
	members[0].blocks[40].Host = c.one.ID
	known := append([]discovery.Network{deleted}, nets...)
	for i, m := range members {
		for range 2 {
			err := m.p.Reassert(t.Context(), c.meta, m.h, known, m.blocks)
			if conflict := errors.Is(err, pool.ErrConflict); conflict != (i == 2) || err != nil && !conflict {
				t.Errorf("%s: got %v", m.h.Name, err)
			}
		}
	}
	w.until("two networks again", has(2))
	got, err := c.first.Meta(t.Context())
	blocks, blocksErr := c.first.Blocks(t.Context(), nets[1])
	hosts, hostsErr := c.first.Hosts(t.Context())
	if err != nil || got.ClusterID != c.meta.ClusterID || len(blocks) != 120 || len(hosts) != 3 {
		t.Errorf("cluster %s (%v), %d blocks (%v), %d hosts (%v): want %s, 120, 3",
			got.ClusterID, err, len(blocks), blocksErr, len(hosts), hostsErr, c.meta.ClusterID)
	}
	at, _, err := c.first.BlockAt(t.Context(), nets[1], lost.Prefix.Addr())
	if err != nil || at.Host != c.one.ID {
		t.Errorf("the block in other hands: %v (%v), want it left there", at, err)
	}
	if n := c.network(t, "new"); n.VNI <= nets[1].VNI || n.Subnets[0].CIDR.Overlaps(nets[0].Subnets[0].CIDR) {
		t.Errorf("a new network is %v, beside %v", n, nets)
	}
}

// Addresses that were recorded one by one come back as well, and those that
// another host has by now stay its.
func TestReassertAddrs(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		c := newCluster(t, s)
		p, two := c.member(t, "two", 2)
		n := c.network(t, "blue", "10.80.0.0/16")
		mine := discovery.ReservedAddr{Network: n.ID, Addr: netip.MustParseAddr("10.80.0.7"), Seq: 3}
		gone := discovery.ReservedAddr{Network: newNet(), Addr: mine.Addr, Seq: 1}
		c.wipe(t)
		if err := c.first.Reassert(t.Context(), c.meta, c.one, []discovery.Network{n}, nil); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := c.first.ReassertAddrs(t.Context(), c.one, []discovery.Network{n}, []discovery.ReservedAddr{mine, gone}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.first.Reserved(t.Context(), n.ID, n.Subnets[0].CIDR)
		if err != nil || len(got) != 1 || got[mine.Addr] != (discovery.Reservation{Host: c.one.ID, Seq: 3}) {
			t.Errorf("got %v (%v), want %v of host one", got, err, mine)
		}
		if err := p.Reassert(t.Context(), c.meta, two, nil, nil); err != nil {
			t.Fatal(err)
		}
		err = p.ReassertAddrs(t.Context(), two, []discovery.Network{n}, []discovery.ReservedAddr{mine})
		if taken, ok := errors.AsType[*discovery.TakenError](err); !ok || taken.Host != c.one.ID {
			t.Errorf("another host's address: got %v, want a TakenError", err)
		}
	})
}

func newNet() (id discovery.NetworkID) {
	_, _ = rand.Read(id[:])
	return id
}

func TestReassertRefuses(t *testing.T) {
	c := newCluster(t, embeddedStore(t))
	p, two := c.member(t, "two", 2)
	other := c.meta
	other.ClusterID = "ffff"
	if err := c.open(t, nil).Reassert(t.Context(), other, two, nil, nil); !errors.Is(err, pool.ErrOtherCluster) {
		t.Errorf("another cluster: got %v, want ErrOtherCluster", err)
	}
	if _, err := c.first.Fence(t.Context(), "two", "root@one"); err != nil {
		t.Fatal(err)
	}
	n := c.network(t, "blue")
	n.ID = newID()
	if err := p.Reassert(t.Context(), c.meta, two, []discovery.Network{n}, nil); !errors.Is(err, pool.ErrForgotten) {
		t.Errorf("a removed host: got %v, want ErrForgotten", err)
	}
	if err := c.first.Reassert(t.Context(), c.meta, c.one, []discovery.Network{n}, nil); !errors.Is(err, pool.ErrConflict) {
		t.Errorf("a name of another network: got %v, want ErrConflict", err)
	}
}

func TestSnapshotRestored(t *testing.T) {
	server := discoverytest.StartConsul(t, discoverytest.ConsulConfig{})
	c := newCluster(t, store{url: server.URL})
	c.network(t, "blue")
	old := server.Snapshot(t)
	red := c.network(t, "red")
	b := claim(t, c.first, red, c.one)
	w := watch(t, c.open(t, nil))
	before := w.until("two networks", has(2))

	server.Restore(t, old)
	w.until("the old contents, and that they are old", func(c pool.Contents) bool {
		return c.Restored > before.Restored && slices.Equal(names(c), []string{"blue"})
	})
	if err := c.first.Reassert(t.Context(), c.meta, c.one, before.Networks, []discovery.Block{b}); err != nil {
		t.Fatal(err)
	}
	w.until("two networks again", has(2))
	at, held, err := c.first.BlockAt(t.Context(), red, b.Prefix.Addr())
	if err != nil || !held || at.Host != c.one.ID {
		t.Errorf("block: %v %v (%v), want it held again", at, held, err)
	}
}
