package pool_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// same compares with netip values by ==.
var same = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func TestCluster(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		t.Run("an empty store holds none", func(t *testing.T) {
			if _, err := unmade(s).open(t, nil).Meta(t.Context()); !errors.Is(err, pool.ErrNoCluster) {
				t.Errorf("got %v, want ErrNoCluster", err)
			}
		})
		t.Run("a second init names the first", func(t *testing.T) { initTwice(t, s) })
		t.Run("of many inits one wins", func(t *testing.T) { initRace(t, s) })
		t.Run("another cluster's store is refused", func(t *testing.T) { otherCluster(t, s) })
		t.Run("a cluster without hosts is adopted", func(t *testing.T) { adopt(t, s) })
		t.Run("a newer schema is read and never written", func(t *testing.T) { newerSchema(t, s) })
	})
}

func initTwice(t *testing.T, s store) {
	c := newCluster(t, s)
	got, err := c.first.Meta(t.Context())
	want := c.meta
	want.Schema = 1
	if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
		t.Errorf("meta: %v, -want +got:\n%s", err, diff)
	}
	err = c.open(t, nil).Init(t.Context(), unmade(s).meta, host("two", 2))
	found, ok := errors.AsType[*pool.ExistsError](err)
	if !ok || !errors.Is(err, pool.ErrExists) || found.Meta.ClusterID != c.meta.ClusterID || len(found.Hosts) != 1 {
		t.Errorf("got %v, want an ExistsError with host one", err)
	}
	if diff := cmp.Diff(c.one, found.Hosts[0], same); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func initRace(t *testing.T, s store) {
	c := unmade(s)
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 20 {
		p, h := c.open(t, nil), host(fmt.Sprint("host", i), byte(i))
		wg.Go(func() {
			m := c.meta
			m.ClusterID = fmt.Sprint(i)
			switch err := p.Init(t.Context(), m, h); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, pool.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	hosts, err := c.open(t, nil).Hosts(t.Context())
	if won.Load() != 1 || len(hosts) != 1 || err != nil {
		t.Errorf("%d won, hosts %v (%v): want one", won.Load(), hosts, err)
	}
}

func otherCluster(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue")
	p := c.open(t, func(cfg *pool.Config) { cfg.Cluster = "ffff" })
	_, metaErr := p.Meta(t.Context())
	_, createErr := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "red"})
	_, claimErr := p.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil)
	for what, err := range map[string]error{"meta": metaErr, "create": createErr, "claim": claimErr,
		"register": p.Register(t.Context(), host("two", 2)), "healthy": p.Healthy()} {
		if !errors.Is(err, pool.ErrOtherCluster) {
			t.Errorf("%s: got %v, want ErrOtherCluster", what, err)
		}
	}
}

func adopt(t *testing.T, s store) {
	c := newCluster(t, s)
	c.network(t, "blue")
	two := host("two", 2)
	m := unmade(s).meta
	_, err := c.open(t, nil).Adopt(t.Context(), m, two)
	if !errors.Is(err, pool.ErrExists) {
		t.Errorf("with a host: got %v, want ErrExists", err)
	}
	if err := c.first.Unregister(t.Context(), c.one.ID, c.one.Name); err != nil {
		t.Fatal(err)
	}
	got, err := c.open(t, nil).Adopt(t.Context(), m, two)
	if err != nil || got.ClusterID != c.meta.ClusterID {
		t.Errorf("got %v (%v), want cluster %s", got, err, c.meta.ClusterID)
	}
	nets, err := c.first.Networks(t.Context())
	hosts, hostsErr := c.first.Hosts(t.Context())
	if len(nets) != 1 || len(hosts) != 1 || hosts[0].Name != "two" {
		t.Errorf("networks %v (%v), hosts %v (%v): want blue and two", nets, err, hosts, hostsErr)
	}
	if _, err := c.open(t, nil).Adopt(t.Context(), m, host("three", 3)); !errors.Is(err, pool.ErrExists) {
		t.Errorf("again: got %v, want ErrExists", err)
	}
}

func newerSchema(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue")
	c.raw(t, "PUT", "meta", "", fmt.Sprintf(`{"schema":2,"cluster_id":%q}`, c.meta.ClusterID))
	p := c.open(t, nil)
	m, err := p.Meta(t.Context())
	nets, netsErr := p.Networks(t.Context())
	if err != nil || m.Schema != 2 || len(nets) != 1 || netsErr != nil {
		t.Errorf("read: %v (%v), %v (%v)", m, err, nets, netsErr)
	}
	_, createErr := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "red"})
	_, claimErr := p.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil)
	for what, err := range map[string]error{"create": createErr, "claim": claimErr,
		"register": p.Register(t.Context(), host("two", 2)), "healthy": p.Healthy()} {
		if !errors.Is(err, pool.ErrNewerSchema) {
			t.Errorf("%s: got %v, want ErrNewerSchema", what, err)
		}
	}
}

func TestHosts(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		t.Run("a name has one holder", func(t *testing.T) { nameTaken(t, s) })
		t.Run("a restarted host replaces its entry and keeps what is not ours", func(t *testing.T) { reregister(t, s) })
		t.Run("a cloned host is told of the other", func(t *testing.T) { cloned(t, s) })
		t.Run("a removed host is refused for ever", func(t *testing.T) { fenced(t, s) })
		t.Run("a host without a record is fenced by its id", func(t *testing.T) { fencedWithoutARecord(t, s) })
		t.Run("what a removed host held is freed in the second step", func(t *testing.T) { freed(t, s) })
		t.Run("a host that leaves gives back everything", func(t *testing.T) { left(t, s) })
	})
}

func nameTaken(t *testing.T, s store) {
	c := newCluster(t, s)
	err := c.open(t, nil).Register(t.Context(), host("one", 9))
	taken, ok := errors.AsType[*pool.NameTakenError](err)
	if !ok || taken.Host.Gossip != c.one.Gossip {
		t.Errorf("got %v, want a NameTakenError with %s", err, c.one.Gossip)
	}
	if err := c.open(t, nil).Register(t.Context(), host("a/b", 9)); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("name with a slash: got %v, want ErrInvalid", err)
	}
}

func reregister(t *testing.T, s store) {
	c := newCluster(t, s)
	key := "hosts/" + c.one.ID.String()
	v := c.raw(t, "GET", key, "raw", "")
	c.raw(t, "PUT", key, "", `{"wg_ip":"100.64.0.1",`+string(v[1:]))

	c.one.Nonce, c.one.Incarnation, c.one.Name = 77, 2, "uno"
	if err := c.first.Register(t.Context(), c.one); err != nil {
		t.Fatal(err)
	}
	hosts, err := c.first.Hosts(t.Context())
	if diff := cmp.Diff([]pool.Host{c.one}, hosts, same); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if got := c.fields(t, key)["wg_ip"]; got != "100.64.0.1" {
		t.Errorf("field of another version: got %v, want it kept", got)
	}
	// The old name is free again.
	if err := c.open(t, nil).Register(t.Context(), host("one", 2)); err != nil {
		t.Error(err)
	}
}

func cloned(t *testing.T, s store) {
	c := newCluster(t, s)
	twin := c.one
	twin.Nonce = 99
	err := c.open(t, nil).Register(t.Context(), twin)
	other, ok := errors.AsType[*pool.ClonedError](err)
	if !ok || other.Other.Gossip != c.one.Gossip {
		t.Errorf("got %v, want a ClonedError with %s", err, c.one.Gossip)
	}
	if err := c.first.Register(t.Context(), c.one); err != nil {
		t.Errorf("the same start again: %v", err)
	}
}

func fenced(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue")
	claim(t, p, n, two)

	if _, err := c.first.Fence(t.Context(), "none", "root@one"); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("unknown name: got %v, want ErrNotFound", err)
	}
	if _, _, err := c.first.FreeHeld(t.Context(), two.ID); !errors.Is(err, pool.ErrNotFenced) {
		t.Errorf("free before fence: got %v, want ErrNotFenced", err)
	}
	for range 2 {
		h, err := c.first.Fence(t.Context(), "two", "root@one")
		if err != nil || h.ID != two.ID {
			t.Fatalf("got %v (%v), want host two", h, err)
		}
	}
	two.Incarnation = 1000
	_, claimErr := p.ClaimBlock(t.Context(), n, two.ID, two.Nonce, false, nil)
	for what, err := range map[string]error{"register": p.Register(t.Context(), two), "claim": claimErr} {
		gone, ok := errors.AsType[*pool.ForgottenError](err)
		if !ok || gone.By != "root@one" || gone.At.IsZero() {
			t.Errorf("%s: got %v, want a ForgottenError", what, err)
		}
	}
	if err := c.open(t, nil).Register(t.Context(), host("two", 3)); err != nil {
		t.Errorf("its name for another host: %v", err)
	}
}

// A host whose record a wiped store has lost is removed by its id, and another
// host of its name stays.
func fencedWithoutARecord(t *testing.T, s store) {
	c := newCluster(t, s)
	_, heir := c.member(t, "two", 2)
	lost := host("two", 3)
	for range 2 {
		if err := c.first.FenceLost(t.Context(), lost.ID, lost.Name, "root@one"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.first.FreeHeld(t.Context(), lost.ID); err != nil {
		t.Errorf("free what it held: %v", err)
	}
	if err := c.open(t, nil).Register(t.Context(), lost); !errors.Is(err, pool.ErrForgotten) {
		t.Errorf("it registers again: got %v, want ErrForgotten", err)
	}
	hosts, err := c.first.Hosts(t.Context())
	if err != nil || len(hosts) != 2 || hosts[1].ID != heir.ID {
		t.Errorf("hosts %v (%v), want one and the heir of the name", hosts, err)
	}
}

func freed(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue", "10.80.0.0/16")
	mine := claim(t, c.first, n, c.one)
	taken := map[string]bool{}
	for range 70 { // more than one transaction
		taken[claim(t, p, n, two).Prefix.String()] = true
	}
	a := n.Subnets[0].CIDR.Addr()
	for covered := true; covered; a = a.Next() {
		_, err := p.Reserve(t.Context(), n, a, two.ID, nil)
		covered = err != nil
	}
	if _, err := c.first.Fence(t.Context(), "two", "root@one"); err != nil {
		t.Fatal(err)
	}
	blocks, addrs, err := c.first.FreeHeld(t.Context(), two.ID)
	if blocks != 70 || addrs != 1 || err != nil || len(taken) != 70 {
		t.Errorf("freed %d blocks, %d addresses (%v), want 70 and 1", blocks, addrs, err)
	}
	if blocks, addrs, err := c.first.FreeHeld(t.Context(), two.ID); blocks+addrs != 0 || err != nil {
		t.Errorf("again: freed %d, %d (%v), want nothing", blocks, addrs, err)
	}
	left, err := c.first.Blocks(t.Context(), n)
	if diff := cmp.Diff([]discovery.Block{mine}, left, same); err != nil || diff != "" {
		t.Errorf("%v, left -want +got:\n%s", err, diff)
	}
}

func left(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue")
	claim(t, p, n, two)
	for range 2 {
		if err := p.Unregister(t.Context(), two.ID, two.Name); err != nil {
			t.Fatal(err)
		}
	}
	blocks, blocksErr := p.Blocks(t.Context(), n)
	hosts, hostsErr := p.Hosts(t.Context())
	if err := errors.Join(blocksErr, hostsErr); err != nil || len(blocks) != 0 || len(hosts) != 1 {
		t.Errorf("left %v, %v (%v): want host one alone", blocks, hosts, err)
	}
	// Leaving is not being removed: the host may come back under its id.
	if err := p.Register(t.Context(), two); err != nil {
		t.Error(err)
	}
}
