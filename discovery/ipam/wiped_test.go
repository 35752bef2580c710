package ipam

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
)

// wipe loses the reservations. Blocks are written back by their holders'
// agents, reservations of a host that is away are not.
func (w *world) wipe() { w.pool.set(func() { clear(w.pool.reserved) }) }

// away stops the host's agent; its containers go on, and the view shows them.
func (h *host) away() {
	h.halt()
	h.w.set(func() { h.w.dead[h.id] = true })
}

func mustNotGive(t *testing.T, h *host, n discovery.Network, used netip.Addr, times int) {
	t.Helper()
	for i := range times {
		if x := mustLease(t, h, n, owner(100+i), ""); x == used {
			t.Fatalf("%s is given to a second container (lease %d)", x, i)
		}
	}
}

// borrowed is an address of a's block that an endpoint of b has, and announces.
func borrowed(t *testing.T, w *world) (a, b *host, n discovery.Network, addr netip.Addr) {
	t.Helper()
	a, b, n = w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
	mustLease(t, a, n, owner(1), "")
	addr = inBlock(a, 3)
	mustLease(t, b, n, owner(2), addr.String())
	w.announce(b, n, owner(2), "db", addr)
	return a, b, n, addr
}

func TestLoanOutlivesAWipedPoolWhileTheBorrowerAnnouncesIt(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n, want := borrowed(t, w)
		b.away()
		w.wipe()
		time.Sleep(2 * rereadTime)
		synctest.Wait()
		mustNotGive(t, a, n, want, 20)

		w.withdraw(owner(2))
		time.Sleep(rereadTime)
		synctest.Wait()
		if h := heldAt(a, n, want); h != nil {
			t.Errorf("nobody uses it any more, and still held: %+v", h)
		}
	})
}

func TestLenderThatRestartsWithAWipedPoolKeepsTheLoan(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, _, n, want := borrowed(t, w)
		w.wipe()
		a.restart()
		synctest.Wait()
		time.Sleep(quarantine)
		mustNotGive(t, a, n, want, 20)
	})
}

func TestWhoClaimsABlockSkipsWhatOthersAnnounceInIt(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		x := mustLease(t, b, n, owner(2), "192.0.2.200")
		w.announce(b, n, owner(2), "db", x)
		b.away()
		w.wipe()
		mustNotGive(t, a, n, x, 200)
		if !owns(a, n, x) {
			t.Fatal("its block was not claimed")
		}

		w.withdraw(owner(2))
		time.Sleep(loanCheck + quarantine + time.Second)
		if got := mustLease(t, a, n, owner(1), x.String()); got != x {
			t.Errorf("got %s", got)
		}
	})
}

func TestAddressThatAnotherAnnouncesIsNotReserved(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		x := mustLease(t, b, n, owner(2), "192.0.2.200")
		w.announce(b, n, owner(2), "db", x)

		began := time.Now()
		_, err := a.m.Lease(t.Context(), n, owner(9), x)
		if _, taken := errors.AsType[*TakenError](err); !taken || time.Since(began) > 0 {
			t.Errorf("reserved: got %v after %s, want taken at once", err, time.Since(began))
		}

		b.away()
		w.wipe()
		_, err = a.m.Lease(t.Context(), n, owner(9), x)
		if taken, ok := errors.AsType[*TakenError](err); !ok || taken.Host != b.id || taken.Endpoint != owner(2) {
			t.Errorf("wiped: got %v, want taken by db of host2", err)
		}

		time.AfterFunc(time.Second, func() { w.withdraw(owner(2)) })
		if got := mustLease(t, a, n, owner(9), x.String()); got != x {
			t.Errorf("withdrawn a moment later: got %s", got)
		}
	})
}
