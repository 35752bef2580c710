package ipam

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The keeper waits for a pool that does not answer, with the blocks of its network
// locked, and so does a first lease of another network.
func TestPoolThatHangsHoldsUpNoLeaseInHand(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, blueNet, green := w.hosts[0], blue(t, "198.18.0.0/16"), blue(t, "192.0.2.0/24")
		green.ID[1] = 9
		for i := range 47 {
			mustLease(t, h, blueNet, owner(i), "")
		}
		synctest.Wait()
		w.pool.set(func() { w.pool.hang = true })
		mustLease(t, h, blueNet, owner(47), "") // now the next block is wanted ahead
		failed := make(chan error)
		go func() {
			_, err := h.m.Lease(t.Context(), green, owner(1), none)
			failed <- err
		}()
		synctest.Wait()
		nw := h.network(blueNet.ID)
		nw.mu.Lock()
		locked := nw.blocksLocked
		nw.mu.Unlock()
		if !locked {
			t.Fatal("nobody waits for the pool")
		}
		began := time.Now()
		a := mustLease(t, h, blueNet, owner(48), "")
		mustFree(t, h, blueNet, owner(48))
		if got := mustLease(t, h, blueNet, owner(49), a.String()); got != a {
			t.Errorf("got %s, want %s", got, a)
		}
		if err := h.m.Free(t.Context(), green.ID, owner(2)); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %s for a pool that was not needed", took)
		}
		if err := <-failed; !errors.Is(err, ErrStoreAway) {
			t.Errorf("the first lease of the other network: got %v", err)
		}
	})
}

func TestWhoWaitsForAnotherRequestLeavesWithItsContext(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		w.pool.set(func() { w.pool.hang = true })
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = h.m.Lease(t.Context(), n, owner(1), none)
		}()
		synctest.Wait()
		for name, id := range map[string]int{"for the same owner": 1, "for the same claim": 2} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			_, err := h.m.Lease(ctx, n, owner(id), none)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
				t.Errorf("%s: got %v after %s, want the end of its own second", name, err, took)
			}
			cancel()
		}
		<-over
	})
}

// What a dropped network has yet to return is not returned from under a lease, if
// the network comes back under its id.
func TestReturnOfADroppedNetworkEndsNoLease(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n, want := w.hosts[0], blue(t, "192.0.2.0/24"), netip.MustParseAddr("192.0.2.200")
		mustLease(t, h, n, owner(1), want.String())
		h.halt() // nobody tells the pool in between
		if err := h.m.Drop(n.ID); err != nil {
			t.Fatal(err)
		}
		mustLease(t, h, n, owner(2), want.String())
		h.run()
		synctest.Wait()
		if r := w.pool.heldAddrs()[addrName(n.ID, want)]; r.Host != h.id {
			t.Errorf("the lease's reservation was given back: the pool says %+v", r)
		}
		mustFree(t, h, n, owner(2))
		if err := h.m.Drop(n.ID); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.network(n.ID) != nil {
			t.Error("a dropped network of which nothing is left is remembered")
		}
	})
}
