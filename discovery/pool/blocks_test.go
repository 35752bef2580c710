package pool_test

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

func TestBlocks(t *testing.T) {
	stores(t, func(t *testing.T, s store) {
		t.Run("a claimed block is found and given back", func(t *testing.T) { claimed(t, s) })
		t.Run("of two who claim the last block one gets it", func(t *testing.T) { lastBlock(t, s) })
		t.Run("claims at once are all different and none is lost", func(t *testing.T) { claimRace(t, s) })
		t.Run("a block that somebody announces is left alone", func(t *testing.T) { announced(t, s) })
		t.Run("a static address has one holder", func(t *testing.T) { reserved(t, s) })
		t.Run("an address is lent out of a block", func(t *testing.T) { lent(t, s) })
		t.Run("ipv6 has its own grid", func(t *testing.T) { claimed6(t, s) })
	})
}

func claimed(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue", "10.80.0.0/24")
	b := claim(t, c.first, n, c.one)
	want := discovery.Block{Network: n.ID, Prefix: b.Prefix, Host: c.one.ID, State: discovery.BlockActive, Seq: 1, Index: b.Index}
	all, err := c.first.Blocks(t.Context(), n)
	if diff := cmp.Diff([]discovery.Block{want}, all, same); err != nil || diff != "" || b != want || !n.Subnets[0].Claimable(b.Prefix) {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	at, held, err := c.first.BlockAt(t.Context(), n, b.Prefix.Addr().Next())
	if err != nil || !held || at != b {
		t.Errorf("got %v %v (%v), want %v", at, held, err, b)
	}
	for range 2 {
		if err := c.first.ReleaseBlock(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	if _, held, err := c.first.BlockAt(t.Context(), n, b.Prefix.Addr()); held || err != nil {
		t.Errorf("after release: held %v (%v)", held, err)
	}
	if _, _, err := c.first.BlockAt(t.Context(), n, netip.MustParseAddr("192.0.2.1")); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("address of no subnet: got %v, want ErrInvalid", err)
	}

	// A block that changed hands is not taken from its new holder.
	p, two := c.member(t, "two", 2)
	for {
		theirs := claim(t, p, n, two)
		if theirs.Prefix != b.Prefix {
			continue
		}
		if err := c.first.ReleaseBlock(t.Context(), b); err != nil {
			t.Error(err)
		}
		if at, held, err := p.BlockAt(t.Context(), n, b.Prefix.Addr()); err != nil || !held || at != theirs {
			t.Errorf("got %v %v (%v), want %v", at, held, err, theirs)
		}
		return
	}
}

func lastBlock(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue", "10.80.0.0/29") // 8 blocks of one address, 3 of them not for endpoints
	for range 4 {
		claim(t, c.first, n, c.one)
	}
	var won, full atomic.Int32
	var wg sync.WaitGroup
	try := func(p *pool.Pool, h pool.Host) {
		_, err := p.ClaimBlock(t.Context(), n, h.ID, h.Nonce, false, nil)
		switch {
		case err == nil:
			won.Add(1)
		case errors.Is(err, discovery.ErrFull):
			full.Add(1)
		default:
			t.Error(err)
		}
	}
	wg.Go(func() { try(c.first, c.one) })
	wg.Go(func() { try(p, two) })
	wg.Wait()
	if won.Load() != 1 || full.Load() != 1 {
		t.Errorf("%d won, %d found it full, want one each", won.Load(), full.Load())
	}
}

func claimRace(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue", "10.80.0.0/22") // 64 blocks
	var mu sync.Mutex
	got := map[netip.Prefix]bool{}
	var wg sync.WaitGroup
	for i := range 16 {
		p, h := c.member(t, string(rune('a'+i)), byte(i+10))
		wg.Go(func() {
			for range 4 {
				b, err := p.ClaimBlock(t.Context(), n, h.ID, h.Nonce, false, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if got[b.Prefix] {
					t.Errorf("%s twice", b.Prefix)
				}
				got[b.Prefix] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	all, err := c.first.Blocks(t.Context(), n)
	if err != nil || len(all) != 64 || len(got) != 64 {
		t.Errorf("%d claimed, %d in the store (%v), want 64", len(got), len(all), err)
	}
	if _, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, false, nil); !errors.Is(err, discovery.ErrFull) {
		t.Errorf("one more: got %v, want ErrFull", err)
	}
}

func announced(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue", "10.80.0.0/24") // 32 blocks
	free := netip.MustParsePrefix("10.80.0.160/29")
	taken := func(b netip.Prefix) bool { return b != free }
	b, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, false, taken)
	if err != nil || b.Prefix != free {
		t.Errorf("got %v (%v), want %s", b, err, free)
	}
	if _, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, false, taken); !errors.Is(err, discovery.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if _, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, true, nil); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("no ipv6 subnet: got %v, want ErrInvalid", err)
	}
}

func reserved(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue", "10.80.0.0/24")
	a := netip.MustParseAddr("10.80.0.77")
	for range 2 {
		if seq, err := c.first.Reserve(t.Context(), n, a, c.one.ID, nil); seq != 1 || err != nil {
			t.Fatalf("seq %d (%v), want 1", seq, err)
		}
	}
	_, err := p.Reserve(t.Context(), n, a, two.ID, nil)
	if taken, ok := errors.AsType[*discovery.TakenError](err); !ok || taken.Host != c.one.ID || taken.Addr != a {
		t.Errorf("got %v, want a TakenError", err)
	}
	for _, bad := range []string{"10.80.0.0", "10.80.0.1", "10.80.0.255", "192.0.2.1"} {
		if _, err := p.Reserve(t.Context(), n, netip.MustParseAddr(bad), two.ID, nil); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", bad, err)
		}
	}
	b := claim(t, p, n, two)
	_, err = c.first.Reserve(t.Context(), n, b.Prefix.Addr().Next().Next(), c.one.ID, nil)
	if !errors.Is(err, discovery.ErrCovered) {
		t.Errorf("in a block: got %v, want ErrCovered", err)
	}

	if err := p.Unreserve(t.Context(), n.ID, a, two.ID); err != nil {
		t.Errorf("given back by who does not have it: %v", err)
	}
	got, err := p.Reserved(t.Context(), n.ID, netip.MustParsePrefix("10.80.0.72/29"))
	want := map[netip.Addr]discovery.Reservation{a: {Host: c.one.ID, Seq: 1}}
	if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if got, err := p.Reserved(t.Context(), n.ID, netip.MustParsePrefix("10.80.0.80/29")); len(got) != 0 || err != nil {
		t.Errorf("the next block: %v (%v), want none", got, err)
	}
	for range 2 {
		if err := c.first.Unreserve(t.Context(), n.ID, a, c.one.ID); err != nil {
			t.Error(err)
		}
	}
	if got, err := p.Reserved(t.Context(), n.ID, n.Subnets[0].CIDR); len(got) != 0 || err != nil {
		t.Errorf("given back: %v (%v), want none", got, err)
	}
}

func lent(t *testing.T, s store) {
	c := newCluster(t, s)
	p, two := c.member(t, "two", 2)
	n := c.network(t, "blue", "10.80.0.0/16")
	b := claim(t, p, n, two)
	a := b.Prefix.Addr().Next().Next()
	if seq, err := c.first.Reserve(t.Context(), n, a, c.one.ID, &b); seq != 1 || err != nil {
		t.Errorf("lent: seq %d (%v), want 1", seq, err)
	}
	if err := p.ReleaseBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	_, err := c.first.Reserve(t.Context(), n, a.Next(), c.one.ID, &b)
	if !errors.Is(err, discovery.ErrCovered) {
		t.Errorf("after the lender gave the block back: got %v, want ErrCovered", err)
	}
}

func claimed6(t *testing.T, s store) {
	c := newCluster(t, s)
	n := c.network(t, "blue", "2001:db8:1::/64")
	b, err := c.first.ClaimBlock(t.Context(), n, c.one.ID, 1, true, nil)
	if err != nil || !n.Subnets[0].Claimable(b.Prefix) {
		t.Fatalf("got %v (%v)", b, err)
	}
	at, held, err := c.first.BlockAt(t.Context(), n, b.Prefix.Addr().Next())
	if err != nil || !held || at != b {
		t.Errorf("got %v %v (%v), want %v", at, held, err, b)
	}
	free := netip.MustParseAddr("2001:db8:1:0:ffff:ffff:ffff:77")
	if seq, err := c.first.Reserve(t.Context(), n, free, c.one.ID, nil); seq != 1 || err != nil {
		t.Errorf("seq %d (%v), want 1", seq, err)
	}
	got, err := c.first.Reserved(t.Context(), n.ID, n.Subnets[0].BlockOf(free))
	if err != nil || len(got) != 1 {
		t.Errorf("got %v (%v), want one", got, err)
	}
}
