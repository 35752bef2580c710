package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/goleak"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f with hosts on fake time; their Run is running.
func bubble(t *testing.T, hosts int, f func(t *testing.T, w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		for range hosts {
			w.add().run()
		}
		f(t, w)
	})
}

func TestFirstLeaseClaimsABlockAndSkipsGateway(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24", "2001:db8::/64")
		l, err := h.m.Lease(t.Context(), n, owner(1), none)
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr.Bits() != 24 || l.Seq == 0 {
			t.Errorf("got %+v, want the subnet's length and the claim's seq", l)
		}
		l6, err := h.m.Lease(t.Context(), n, owner(1), netip.MustParseAddr("2001:db8::7"))
		if err != nil {
			t.Fatal(err)
		}
		if !l6.Addr.Addr().Is6() || l6.Addr.Bits() != 64 {
			t.Errorf("got %v, want an address of the /64", l6.Addr)
		}
		again, err := h.m.Lease(t.Context(), n, owner(1), none)
		if err != nil || again != l {
			t.Errorf("again: got %v, %v, want %v", again, err, l)
		}
		if got := h.m.Blocks(); len(got) != 1 || len(got[0].Blocks) != 1 || got[0].VNI != 4096 {
			t.Errorf("blocks: got %+v, want one of IPv4", got)
		}
	})
}

func TestAllAddressesOfABlockButTheNetworksOwn(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/26")
		n.Subnets[0].Aux = map[string]netip.Addr{"printer": netip.MustParseAddr("192.0.2.9")}
		seen := map[netip.Addr]bool{}
		for i := range 60 {
			a := mustLease(t, h, n, owner(i), "")
			if seen[a] || !n.Subnets[0].Assignable(a) {
				t.Fatalf("got %s, seen %v", a, seen[a])
			}
			seen[a] = true
		}
		_, err := h.m.Lease(t.Context(), n, owner(99), none)
		full, ok := errors.AsType[*FullError](err)
		if !ok || !errors.Is(err, ErrFull) {
			t.Fatalf("got %v, want a FullError", err)
		}
		want := map[discovery.HostID]Holder{h.id: {Name: "host1", Held: 60}}
		if d := cmp.Diff(want, full.Holders); d != "" {
			t.Error(d)
		}
	})
}

func TestNextBlockIsClaimedInTheBackground(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "198.18.0.0/16")
		n.Subnets[0].Gateway = netip.MustParseAddr("198.18.255.254")
		for i := range 47 {
			mustLease(t, h, n, owner(i), "")
		}
		synctest.Wait()
		if got := len(h.m.Held()); got != 1 {
			t.Fatalf("at 47 of 64: %d blocks, want 1", got)
		}
		mustLease(t, h, n, owner(100), "")
		mustLease(t, h, n, owner(101), "")
		synctest.Wait()
		if got := len(h.m.Held()); got != 2 {
			t.Errorf("at 49 of 64: %d blocks, want 2", got)
		}
	})
}

func TestDrainedBlockGoesBackAfterTenMinutes(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "")
		mustFree(t, h, n, owner(1))
		time.Sleep(drainTime - time.Second)
		synctest.Wait()
		if got := len(w.pool.heldBlocks()); got != 1 {
			t.Fatalf("before 10 min: %d blocks, want 1", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := len(w.pool.heldBlocks()); got != 0 {
			t.Errorf("after 10 min: %d blocks, want 0", got)
		}
	})
}

func TestBlockOfOneAddressGoesBackAtOnce(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/29")
		for i := range 5 {
			mustLease(t, h, n, owner(i), "")
		}
		synctest.Wait()
		if got := len(w.pool.heldBlocks()); got != 5 {
			t.Fatalf("%d blocks, want 5: none ahead", got)
		}
		mustFree(t, h, n, owner(3))
		synctest.Wait()
		if got := len(w.pool.heldBlocks()); got != 4 {
			t.Errorf("%d blocks after free, want 4", got)
		}
	})
}

func TestFreedAddressRests(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/28") // blocks of two addresses
		var got []netip.Addr
		for i := range 13 {
			got = append(got, mustLease(t, h, n, owner(i), ""))
		}
		mustFree(t, h, n, owner(4))
		time.Sleep(time.Second)
		mustFree(t, h, n, owner(7))
		if a := mustLease(t, h, n, owner(20), got[7].String()); a != got[7] {
			t.Errorf("asked for by name: got %s, want %s without a wait", a, got[7])
		}
		mustFree(t, h, n, owner(20))

		began := time.Now()
		if a := mustLease(t, h, n, owner(21), ""); a != got[4] {
			t.Errorf("got %s, want the one that rested longest, %s", a, got[4])
		}
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("waited %s, want until 10 s after it was freed", took)
		}
	})
}

func TestRestSurvivesRestart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		first := mustLease(t, h, n, owner(1), "")
		mustFree(t, h, n, owner(1))
		h.restart()
		if a := mustLease(t, h, n, owner(2), ""); a == first {
			t.Errorf("%s was given again right after the restart", a)
		}
		mustFree(t, h, n, owner(2))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := records(t, h.db, bucketAddresses); got != 0 {
			t.Errorf("%d address records after the rest, want none", got)
		}
	})
}

func records(t testing.TB, db *bbolt.DB, bucket []byte) (n int) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error { n = tx.Bucket(bucket).Stats().KeyN; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLeasesSurviveRestart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24", "2001:db8::/64")
		addr := func(i int) netip.Addr { // every second one is an IPv6 address, which the pool reserves
			if i%2 == 0 {
				return none
			}
			return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", 0x100+i))
		}
		want := map[discovery.EndpointID]Lease{}
		for i := range 20 {
			l, err := h.m.Lease(t.Context(), n, owner(i), addr(i))
			if err != nil {
				t.Fatal(err)
			}
			want[owner(i)] = l
		}
		blocks := h.m.Blocks()
		h.restart()
		if d := cmp.Diff(blocks, h.m.Blocks(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Error(d)
		}
		got := map[discovery.EndpointID]Lease{}
		for _, o := range h.m.Leases() {
			got[o.Owner] = o.Lease
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Error(d)
		}
		w.pool.set(func() { w.pool.hang = true })
		for i := range 20 {
			if l, err := h.m.Lease(t.Context(), n, owner(i), addr(i)); err != nil || l != want[owner(i)] {
				t.Errorf("owner %d: got %v, %v, want %v", i, l, err, want[owner(i)])
			}
		}
	})
}

func TestWithoutThePool(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		first := mustLease(t, h, n, owner(1), "")
		synctest.Wait()
		for name, away := range map[string]func(){
			"answers nothing": func() { w.pool.hang, w.pool.fault = true, nil },
			"refuses":         func() { w.pool.hang, w.pool.fault = false, func() fault { return faultBefore } },
		} {
			w.pool.set(away)
			began := time.Now()
			mustLease(t, h, n, owner(2), "")
			mustFree(t, h, n, owner(2))
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: lease from the block in hand waited %s", name, took)
			}
			for _, want := range []string{"192.0.2.200", ""} {
				a, other := netip.Addr{}, blue(t, "198.51.100.0/24")
				other.ID[1] = 9
				if want != "" {
					a, other = netip.MustParseAddr(want), n
					if owns(h, n, a) {
						t.Fatalf("%s lies in our block", a)
					}
				}
				began := time.Now()
				_, err := h.m.Lease(t.Context(), other, owner(3), a)
				if !errors.Is(err, ErrStoreAway) {
					t.Errorf("%s: got %v, want ErrStoreAway", name, err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("%s: failed after %s, want within 5 s", name, took)
				}
			}
		}
		w.pool.set(func() { w.pool.hang, w.pool.fault = false, nil })
		time.Sleep(time.Minute)
		mustLease(t, h, n, owner(3), "192.0.2.200")
		if got := mustLease(t, h, n, owner(1), ""); got != first {
			t.Errorf("got %s, want %s", got, first)
		}
	})
}

func TestUnwritableDiskRefusesBeforeUse(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "")
		h.halt()
		if err := h.db.Close(); err != nil {
			t.Fatal(err)
		}
		calls := w.pool.asked()
		if _, err := h.m.Lease(t.Context(), n, owner(2), none); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			t.Errorf("any: got %v, want what the disk said", err)
		}
		if _, err := h.m.Lease(t.Context(), n, owner(2), netip.MustParseAddr("192.0.2.200")); err == nil {
			t.Error("static: got a lease that was never written")
		}
		if err := h.m.Free(t.Context(), n.ID, owner(1)); err == nil {
			t.Error("free: got nil")
		}
		other := n
		other.ID[1] = 7
		if _, err := h.m.Lease(t.Context(), other, owner(2), none); err == nil {
			t.Error("first of a network: got a lease that was never written")
		}
		if w.pool.asked() > calls+1 { // BlockAt of the static one; nothing was written
			t.Errorf("the pool was asked %d times", w.pool.asked()-calls)
		}
		if len(w.pool.heldBlocks()) != 1 || len(w.pool.heldAddrs()) != 0 {
			t.Errorf("the pool holds %v, %v", w.pool.heldBlocks(), w.pool.heldAddrs())
		}
		h.db = openDB(t, h.file)
		h.m.cfg.Disk.db = &boltfile.DB{DB: h.db}
		if got := mustLease(t, h, n, owner(1), ""); !got.IsValid() {
			t.Error("the lease that could not be freed is gone")
		}
		mustLease(t, h, n, owner(2), "")
	})
}

func TestHundredLeasesAtOnceShareOneClaim(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "198.18.0.0/16")
		got := make([]netip.Addr, 100)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = mustLease(t, h, n, owner(i), "") })
		}
		wg.Wait()
		seen := map[netip.Addr]bool{}
		for _, a := range got {
			if seen[a] {
				t.Errorf("%s twice", a)
			}
			seen[a] = true
		}
		synctest.Wait()
		if blocks := len(h.m.Held()); blocks > 3 {
			t.Errorf("%d blocks claimed for 100 leases, want two and one ahead", blocks)
		}
	})
}

func TestOneOwnerAtOnceGetsOneLease(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		got := make([]netip.Addr, 20)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = mustLease(t, h, n, owner(1), "") })
		}
		wg.Wait()
		for _, a := range got {
			if a != got[0] {
				t.Fatalf("got %v", got)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		a := mustLease(t, h, n, owner(1), "")
		w.announce(h, n, owner(1), "web", a)
		deleting := n
		deleting.State = discovery.NetworkDeleting
		for name, c := range map[string]struct {
			n    discovery.Network
			id   discovery.EndpointID
			want netip.Addr
			err  error
			text string
		}{
			"outside the subnet":       {n: n, id: owner(2), want: netip.MustParseAddr("198.51.100.1"), err: ErrOutside},
			"no such family":           {n: n, id: owner(2), want: netip.MustParseAddr("2001:db8::1"), err: ErrOutside},
			"any where no IPv4 is":     {n: blue(t, "2001:db8::/64"), id: owner(2), err: ErrOutside},
			"the gateway":              {n: n, id: owner(2), want: netip.MustParseAddr("192.0.2.1"), err: ErrReserved},
			"the broadcast address":    {n: n, id: owner(2), want: netip.MustParseAddr("192.0.2.255"), err: ErrReserved},
			"a network that goes":      {n: deleting, id: owner(2), err: ErrDeleting},
			"an owner wants a second":  {n: n, id: owner(1), want: netip.MustParseAddr("192.0.2.77"), err: ErrOther},
			"somebody else's, by name": {n: n, id: owner(2), want: a, text: "address " + a.String() + " is taken by web on host1"},
		} {
			_, err := h.m.Lease(t.Context(), c.n, c.id, c.want)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: got %v, want %v %s", name, err, c.err, c.text)
			}
		}
	})
}

func TestDropGivesEverythingBack(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		for i := range 10 {
			mustLease(t, h, n, owner(i), "")
		}
		mustLease(t, w.hosts[1], n, owner(20), "")
		lent := w.hosts[1].m.Held()[0].Prefix.Addr().Next().Next().Next()
		mustLease(t, h, n, owner(21), lent.String())
		mustLease(t, h, n, owner(22), "192.0.2.250")
		if err := h.m.Drop(n.ID); err != nil {
			t.Fatal(err)
		}
		if err := h.m.Drop(n.ID); err != nil {
			t.Errorf("again: %v", err)
		}
		if got := h.m.Blocks(); len(got) != 0 {
			t.Errorf("blocks: %v", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(w.pool.heldBlocks()) != 1 || len(w.pool.heldAddrs()) != 0 {
			t.Errorf("the pool still holds %v, %v", w.pool.heldBlocks(), w.pool.heldAddrs())
		}
		for _, b := range [][]byte{bucketAddresses, bucketReturns} {
			if got := records(t, h.db, b); got != 0 {
				t.Errorf("%s: %d records, want none", b, got)
			}
		}
		if got := heldAt(w.hosts[1], n, lent); got != nil {
			t.Errorf("the lender still counts %s as lent", lent)
		}
	})
}

func TestDropEndsRequestsUnderWay(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		w.pool.set(func() { w.pool.hang = true })
		failed := make(chan error)
		go func() {
			_, err := h.m.Lease(t.Context(), n, owner(1), none)
			failed <- err
		}()
		synctest.Wait()
		if err := h.m.Drop(n.ID); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, ErrDeleting) {
			t.Errorf("got %v, want ErrDeleting", err)
		}
	})
}

func TestQueuedReleasesSurviveRestart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "192.0.2.200")
		mustLease(t, h, n, owner(2), "")
		synctest.Wait()
		w.pool.set(func() { w.pool.fault = func() fault { return faultBefore } })
		mustFree(t, h, n, owner(1))
		mustFree(t, h, n, owner(2))
		time.Sleep(drainTime + time.Minute)
		synctest.Wait()
		if got := records(t, h.db, bucketReturns); got != 2 {
			t.Errorf("%d returns queued, want the address and the block", got)
		}
		h.restart()
		time.Sleep(time.Minute)
		w.pool.set(func() { w.pool.fault = nil })
		time.Sleep(maxBackoff + time.Second)
		synctest.Wait()
		if len(w.pool.heldBlocks()) != 0 || len(w.pool.heldAddrs()) != 0 {
			t.Errorf("the pool still holds %v, %v", w.pool.heldBlocks(), w.pool.heldAddrs())
		}
	})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	file := t.TempDir() + "/leases.db"
	db := openDB(t, file)
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(bucketBlocks)
		if err != nil {
			return err
		}
		return b.Put(keySchema, []byte("2"))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Disk: NewDisk(&boltfile.DB{DB: db})}); err == nil || !strings.Contains(err.Error(), "newer agent") {
		t.Errorf("got %v, want a refusal", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}
