package pool_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

func TestNetworks(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		t.Run("a network comes back as it was made", func(t *testing.T) { created(t, s) })
		t.Run("automatic subnets overlap nothing", func(t *testing.T) { automatic(t, s) })
		t.Run("an overlap names what is in the way and what is free", func(t *testing.T) { overlaps(t, s) })
		t.Run("of two overlapping networks made at once one wins", func(t *testing.T) { overlapRace(t, s) })
		t.Run("many networks made at once are all disjoint", func(t *testing.T) { createMany(t, s) })
		t.Run("a network is deleted in two steps", func(t *testing.T) { deleted(t, s) })
		t.Run("what a host held of a deleted network is freed", func(t *testing.T) { deletedHeld(t, s) })
	})
}

func created(t *testing.T, s store) {
	c := newCluster(t, s)
	n, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{
		Name: "blue", Subnets: []string{"2001:db8::/64", "10.80.0.0/24"}, Gateways: []string{"10.80.0.254"},
		Ranges: []string{"10.80.0.128/25"}, Aux: map[string]string{"printer": "10.80.0.9"}, Internal: true, MTU: 1400,
		Driver: "weft", Labels: map[string]string{"a": "b"}, Options: map[string]string{"host_access": "none"}, By: "root@one"})
	if err != nil {
		t.Fatal(err)
	}
	want := discovery.Network{ID: n.ID, Name: "blue", VNI: 4096, State: discovery.NetworkUp, MTU: 1400, Internal: true,
		Driver: "weft", Labels: map[string]string{"a": "b"}, Options: map[string]string{"host_access": "none"},
		Created: n.Created, By: "root@one",
		Subnets: []discovery.Subnet{
			{CIDR: netip.MustParsePrefix("10.80.0.0/24"), Gateway: netip.MustParseAddr("10.80.0.254"),
				Range: netip.MustParsePrefix("10.80.0.128/25"), Bits: 3,
				Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.80.0.9")}},
			{CIDR: netip.MustParsePrefix("2001:db8::/64"), Gateway: netip.MustParseAddr("2001:db8::1"),
				Bits: discovery.BlockBits(netip.MustParsePrefix("2001:db8::/64"))},
		}}
	nets, err := c.first.Networks(t.Context())
	if diff := cmp.Diff([]discovery.Network{want}, nets, same); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "blue"}); !errors.Is(err, pool.ErrExists) {
		t.Errorf("again: got %v, want ErrExists", err)
	}
}

func automatic(t *testing.T, s store) {
	c := newCluster(t, s)
	avoid := []pool.Avoid{
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Host: "one"},
		{Prefix: netip.MustParsePrefix("10.64.0.0/20"), Host: "one"},
		{Prefix: netip.MustParsePrefix("10.64.16.7/32"), Host: "one"},
	}
	for i, want := range []string{"10.64.32.0/20", "10.64.48.0/20"} {
		n, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{Name: fmt.Sprint("n", i), Avoid: avoid})
		if err != nil || n.Subnets[0].CIDR.String() != want || n.VNI != 4096+uint32(i) {
			t.Fatalf("got %v (%v), want %s", n, err, want)
		}
		if gw := n.Subnets[0].Gateway; gw != n.Subnets[0].CIDR.Addr().Next() {
			t.Errorf("gateway %s, want the first address", gw)
		}
	}
	avoid = append(avoid, pool.Avoid{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Host: "one"})
	if _, err := c.first.CreateNetwork(t.Context(), pool.NetworkSpec{Name: "full", Avoid: avoid}); !errors.Is(err, discovery.ErrFull) {
		t.Errorf("no subnet left: got %v, want ErrFull", err)
	}
}

func overlaps(t *testing.T, s store) {
	c := newCluster(t, s)
	c.network(t, "blue", "10.64.0.0/24")
	r := pool.NetworkSpec{Name: "red", Subnets: []string{"10.64.0.0/16"},
		Avoid: []pool.Avoid{{Prefix: netip.MustParsePrefix("10.65.3.0/24"), Host: "two"}}}
	_, err := c.first.CreateNetwork(t.Context(), r)
	want := "subnet 10.64.0.0/16 overlaps network blue, 10.66.0.0/16 is free"
	if err == nil || err.Error() != want || !errors.Is(err, pool.ErrConflict) {
		t.Errorf("got %v, want %s", err, want)
	}
	r.Subnets = []string{"10.65.0.0/16"}
	_, err = c.first.CreateNetwork(t.Context(), r)
	over, ok := errors.AsType[*pool.OverlapError](err)
	if !ok || over.With != "host two" || over.Next.String() != "10.66.0.0/16" {
		t.Errorf("got %v, want host two in the way", err)
	}

	isolated := pool.NetworkSpec{Name: "lab1", Subnets: []string{"10.99.0.0/24"}, Internal: true,
		Options: map[string]string{"host_access": "none"}}
	for _, name := range []string{"lab1", "lab2"} {
		isolated.Name = name
		if _, err := c.first.CreateNetwork(t.Context(), isolated); err != nil {
			t.Errorf("the same subnet for isolated networks: %v", err)
		}
	}
	isolated.Internal, isolated.Name = false, "lab3"
	if _, err := c.first.CreateNetwork(t.Context(), isolated); err == nil {
		t.Error("the same subnet for a network that is not isolated: want an error")
	}
}

func overlapRace(t *testing.T, s store) {
	c := newCluster(t, s)
	pools := []*pool.Pool{c.first, c.open(t, nil)}
	for round := range 10 {
		subnets := []string{fmt.Sprintf("10.%d.0.0/16", round), fmt.Sprintf("10.%d.128.0/20", round)}
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i, p := range pools {
			wg.Go(func() {
				_, err := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: fmt.Sprintf("n%d-%d", round, i), Subnets: subnets[i : i+1]})
				if _, over := errors.AsType[*pool.OverlapError](err); over {
					lost.Add(1)
				} else if err == nil {
					won.Add(1)
				} else {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 1 {
			t.Errorf("round %d: %d won, %d lost, want one each", round, won.Load(), lost.Load())
		}
	}
}

func createMany(t *testing.T, s store) {
	c := newCluster(t, s)
	var wg sync.WaitGroup
	for i := range 6 {
		p := c.open(t, nil)
		wg.Go(func() {
			for j := range 4 {
				if _, err := p.CreateNetwork(t.Context(), pool.NetworkSpec{Name: fmt.Sprintf("n%d-%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	nets, err := c.first.Networks(t.Context())
	if err != nil || len(nets) != 24 {
		t.Fatalf("%d networks (%v), want 24", len(nets), err)
	}
	for i, n := range nets {
		if n.VNI != 4096+uint32(i) {
			t.Errorf("vni %d at place %d", n.VNI, i)
		}
		for _, o := range nets[:i] {
			if o.Subnets[0].CIDR.Overlaps(n.Subnets[0].CIDR) {
				t.Errorf("%s overlaps %s", n.Subnets[0].CIDR, o.Subnets[0].CIDR)
			}
		}
	}
}

func deleted(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue", "10.80.0.0/24")
	v := c.raw(t, "GET", "nets/blue", "raw", "")
	c.raw(t, "PUT", "nets/blue", "", `{"future":[1],`+string(v[1:]))
	b := claim(t, c.first, n, c.one)

	if _, err := c.first.FinishDelete(t.Context(), n, "x"); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("second step first: got %v, want ErrInvalid", err)
	}
	for _, step := range []struct{ force, want bool }{{false, false}, {false, false}, {true, true}, {false, true}} {
		d, err := c.first.DeleteNetwork(t.Context(), "blue", "root@one", step.force)
		if err != nil || d.State != discovery.NetworkDeleting || d.ID != n.ID || d.Force != step.want {
			t.Fatalf("got %v (%v), want blue deleting, force %v", d, err, step.want)
		}
		nets, err := c.first.Networks(t.Context())
		if err != nil || nets[0].State != discovery.NetworkDeleting || nets[0].Force != step.want {
			t.Fatalf("in the store: %v (%v), want force %v", nets, err, step.want)
		}
	}
	if got := c.fields(t, "nets/blue"); got["future"] == nil || got["state"] != "deleting" {
		t.Errorf("after the first step: %v, want the field of another version kept", got)
	}
	if _, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil); !errors.Is(err, pool.ErrDeleting) {
		t.Errorf("claim: got %v, want ErrDeleting", err)
	}
	if _, err := c.first.Reserve(t.Context(), n, netip.MustParseAddr("10.80.0.99"), c.one.ID, nil); !errors.Is(err, pool.ErrDeleting) {
		t.Errorf("reserve: got %v, want ErrDeleting", err)
	}
	if done, err := c.first.FinishDelete(t.Context(), n, "x"); done || err != nil {
		t.Errorf("while a block is held: %v (%v), want not done", done, err)
	}
	if err := c.first.ReleaseBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if done, err := c.first.FinishDelete(t.Context(), n, "x"); !done || err != nil {
			t.Errorf("%v (%v), want done", done, err)
		}
	}
	if got := c.fields(t, "netgone/"+n.ID.String()); got["by"] != "root@one" || got["name"] != "blue" {
		t.Errorf("netgone: %v, want who asked for it", got)
	}
	if _, err := c.first.DeleteNetwork(t.Context(), "blue", "x", false); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("again: got %v, want ErrNotFound", err)
	}
	if again := c.network(t, "blue", "10.80.0.0/24"); again.ID == n.ID || again.VNI <= n.VNI {
		t.Errorf("made again: %v, want another id and vni than %v", again, n)
	}
}

func deletedHeld(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n, other := c.network(t, "blue"), c.network(t, "red")
	claim(t, p, n, two)
	kept := claim(t, p, other, two)
	if err := c.first.FreeNetworkHeld(t.Context(), n, two.ID); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("before it is deleted: got %v, want ErrInvalid", err)
	}
	if _, err := c.first.DeleteNetwork(t.Context(), "blue", "root@one", false); err != nil {
		t.Fatal(err)
	}
	if err := c.first.FreeNetworkHeld(t.Context(), n, two.ID); err != nil {
		t.Fatal(err)
	}
	if done, err := c.first.FinishDelete(t.Context(), n, "root@one"); !done || err != nil {
		t.Errorf("%v (%v), want done", done, err)
	}
	freed, freedErr := p.Blocks(t.Context(), n)
	left, err := p.Blocks(t.Context(), other)
	if diff := cmp.Diff([]discovery.Block{kept}, left, same); err != nil || freedErr != nil || len(freed) != 0 || diff != "" {
		t.Errorf("%v, %v, not freed %v, left -want +got:\n%s", err, freedErr, freed, diff)
	}
}

func TestInvalidNetworks(t *testing.T) {
	c := newCluster(t, embeddedStore(t))
	subnets := func(s ...string) pool.NetworkSpec { return pool.NetworkSpec{Name: "blue", Subnets: s} }
	with := func(change func(*pool.NetworkSpec)) pool.NetworkSpec {
		r := subnets("10.80.0.0/24")
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name string
		r    pool.NetworkSpec
		want string
	}{
		{"no name", pool.NetworkSpec{}, `"" is no name for a network`},
		{"slash in the name", pool.NetworkSpec{Name: "a/b"}, `"a/b" is no name for a network`},
		{"malformed", subnets("10.80.0.0"), `subnet "10.80.0.0" is malformed`},
		{"too small", subnets("10.80.0.0/31"), "subnet 10.80.0.0/31 is too small, /30 is the smallest"},
		{"too large", subnets("0.0.0.0/0"), "subnet 0.0.0.0/0 is too large, /8 is the largest"},
		{"host bits", subnets("10.80.0.9/24"), "subnet 10.80.0.9/24 has host bits set, did you mean 10.80.0.0/24?"},
		{"a second of a family", subnets("10.80.0.0/24", "10.81.0.0/24"), "subnet 10.81.0.0/24: the network has 10.80.0.0/24 already"},
		{"loopback", subnets("127.8.0.0/16"), "subnet 127.8.0.0/16 lies in 127.0.0.0/8: loopback"},
		{"multicast", subnets("239.0.0.0/16"), "multicast"},
		{"link-local", subnets("fe80::/64"), "link-local"},
		{"gateway outside", with(func(r *pool.NetworkSpec) { r.Gateways = []string{"10.81.0.1"} }), "gateway 10.81.0.1 lies in no subnet"},
		{"gateway is broadcast", with(func(r *pool.NetworkSpec) { r.Gateways = []string{"10.80.0.255"} }), "gateway 10.80.0.255 is the network or broadcast"},
		{"two gateways", with(func(r *pool.NetworkSpec) { r.Gateways = []string{"10.80.0.1", "10.80.0.2"} }), "gateway 10.80.0.2: subnet 10.80.0.0/24 has one already"},
		{"gateway malformed", with(func(r *pool.NetworkSpec) { r.Gateways = []string{"x"} }), `gateway "x" is malformed`},
		{"range outside", with(func(r *pool.NetworkSpec) { r.Ranges = []string{"10.80.0.0/23"} }), "range 10.80.0.0/23 lies in no subnet"},
		{"range with host bits", with(func(r *pool.NetworkSpec) { r.Ranges = []string{"10.80.0.3/25"} }), "did you mean 10.80.0.0/25?"},
		{"aux outside", with(func(r *pool.NetworkSpec) { r.Aux = map[string]string{"nas": "10.81.0.1"} }), "auxiliary address nas 10.81.0.1 lies in no subnet"},
		{"aux is the gateway", with(func(r *pool.NetworkSpec) { r.Aux = map[string]string{"nas": "10.80.0.1"} }), "auxiliary address nas (10.80.0.1) is the gateway"},
		{"mtu", with(func(r *pool.NetworkSpec) { r.MTU = 100 }), "mtu 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.first.CreateNetwork(t.Context(), tt.r)
			if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
