package ipam

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
)

// inBlock returns the i-th usable address of a host's first block.
func inBlock(h *host, i int) netip.Addr {
	b := h.m.Held()[0]
	s, _ := h.network(b.Network).spec().Covering(b.Prefix.Addr())
	return slices.Collect(s.Usable(b.Prefix))[i]
}

func TestStaticAddressOfOurBlockNeedsNoPool(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "")
		synctest.Wait()
		w.pool.set(func() { w.pool.hang = true })
		want := inBlock(h, 4)
		if got := mustLease(t, h, n, owner(2), want.String()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		mustFree(t, h, n, owner(2))
		if got := mustLease(t, h, n, owner(3), want.String()); got != want {
			t.Errorf("again: got %s, want %s", got, want)
		}
	})
}

func TestStaticAddressOutsideEveryBlockIsReserved(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		l, err := a.m.Lease(t.Context(), n, owner(1), netip.MustParseAddr("192.0.2.200"))
		if err != nil {
			t.Fatal(err)
		}
		r := w.pool.heldAddrs()[addrName(n.ID, l.Addr.Addr())]
		if r.Host != a.id || r.Seq != l.Seq {
			t.Errorf("the pool says %+v, want %s, seq %d", r, a.id, l.Seq)
		}
		w.announce(a, n, owner(1), "web", l.Addr.Addr())
		_, err = b.m.Lease(t.Context(), n, owner(2), l.Addr.Addr())
		taken, ok := errors.AsType[*TakenError](err)
		if !ok || taken.Host != a.id || taken.Endpoint != owner(1) || !strings.Contains(err.Error(), "192.0.2.200 is taken by web on host1") {
			t.Errorf("got %v", err)
		}

		w.withdraw(owner(1))
		mustFree(t, a, n, owner(1))
		if got := mustLease(t, b, n, owner(2), "192.0.2.200"); got != l.Addr.Addr() {
			t.Errorf("got %s", got)
		}
	})
}

func TestWhoClaimsABlockSkipsWhatWasReservedInIt(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/28")
		mustLease(t, a, n, owner(1), "192.0.2.6")
		mustLease(t, a, n, owner(2), "192.0.2.8")
		seen := map[netip.Addr]bool{}
		for i := range 11 {
			x := mustLease(t, b, n, owner(10+i), "")
			if seen[x] || x == netip.MustParseAddr("192.0.2.6") || x == netip.MustParseAddr("192.0.2.8") {
				t.Fatalf("%s was given out", x)
			}
			seen[x] = true
		}
		if _, err := b.m.Lease(t.Context(), n, owner(99), none); !errors.Is(err, ErrFull) {
			t.Errorf("got %v, want full", err)
		}
		mustFree(t, a, n, owner(1))
		time.Sleep(quarantine + time.Second)
		if x := mustLease(t, b, n, owner(99), ""); x != netip.MustParseAddr("192.0.2.6") {
			t.Errorf("got %s, want the one that was returned", x)
		}
	})
}

func TestStaticAddressOfAnothersBlockIsLent(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		first := mustLease(t, a, n, owner(1), "")
		want := inBlock(a, 3)
		if got := mustLease(t, b, n, owner(2), want.String()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		_, err := a.m.Lease(t.Context(), n, owner(3), want)
		if taken, ok := errors.AsType[*TakenError](err); !ok || taken.Host != b.id {
			t.Errorf("the lender: got %v, want taken by the borrower", err)
		}
		_, err = b.m.Lease(t.Context(), n, owner(3), first)
		if taken, ok := errors.AsType[*TakenError](err); !ok || taken.Host != a.id || taken.Endpoint != owner(1) {
			t.Errorf("in use at the lender: got %v", err)
		}

		a.restart()
		for i := range 10 {
			if x := mustLease(t, a, n, owner(10+i), ""); x == want {
				t.Fatalf("the lender gave %s away after its restart", x)
			}
		}
		time.Sleep(2 * rereadTime) // the pool knows of the loan: it stays
		synctest.Wait()
		if h := heldAt(a, n, want); h == nil || h.state != stateLent {
			t.Errorf("the loan is over: %+v", h)
		}

		mustFree(t, b, n, owner(2))
		synctest.Wait()
		if len(w.pool.heldAddrs()) != 0 {
			t.Errorf("still reserved: %v", w.pool.heldAddrs())
		}
		if got := mustLease(t, a, n, owner(30), want.String()); got != want {
			t.Errorf("the lender: got %s", got)
		}
	})
}

func TestLenderThatDoesNotAnswer(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "")
		w.set(func() { w.mute[a.id] = true })
		began := time.Now()
		_, err := b.m.Lease(t.Context(), n, owner(2), inBlock(a, 3))
		gone, ok := errors.AsType[*AwayError](err)
		if !ok || gone.Host != a.id || gone.HostName != "host1" {
			t.Fatalf("got %v, want an AwayError that names host1", err)
		}
		if took := time.Since(began); took > loanWait {
			t.Errorf("took %s", took)
		}
		if got := mustLease(t, b, n, owner(2), gone.Free.String()); got != gone.Free {
			t.Errorf("the address said to be free: got %s", got)
		}
	})
}

func TestFullNetworkBorrowsFromWhoHasMost(t *testing.T) {
	bubble(t, 4, func(t *testing.T, w *world) {
		n := blue(t, "192.0.2.0/26") // 16 blocks of 4
		for i, leases := range []int{14, 20, 18} {
			for j := range leases {
				id := owner(100*i + j)
				w.announce(w.hosts[i], n, id, "", mustLease(t, w.hosts[i], n, id, ""))
			}
		}
		// The middle one keeps its blocks and frees most of its addresses.
		for j := range 15 {
			if j%4 != 0 {
				w.withdraw(owner(100 + j))
				mustFree(t, w.hosts[1], n, owner(100+j))
			}
		}
		synctest.Wait()
		time.Sleep(quarantine + time.Second)
		h := w.hosts[3]
		got := mustLease(t, h, n, owner(500), "")
		if r := w.pool.heldAddrs()[addrName(n.ID, got)]; r.Host != h.id {
			t.Errorf("%s is not reserved", got)
		}
		if x := heldAt(w.hosts[1], n, got); x == nil || x.state != stateLent || x.host != h.id {
			t.Errorf("%s is not lent by the host with most unused addresses: %+v", got, x)
		}
	})
}

func TestFullNamesHoldersAndUnused(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/28")
		for i := range 13 {
			w.announce(a, n, owner(i), "", mustLease(t, a, n, owner(i), ""))
		}
		w.withdraw(owner(3))
		w.set(func() { w.mute[a.id] = true })
		_, err := b.m.Lease(t.Context(), n, owner(99), none)
		full, ok := errors.AsType[*FullError](err)
		if !ok || full.Holders[a.id] != (Holder{Name: "host1", Held: 13, Unused: 1}) {
			t.Fatalf("got %v", err)
		}
		if want := "network blue is full: host1 holds 13, 1 unused"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
}

func TestLoanThatNobodyTookUpEnds(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "")
		want := inBlock(a, 3)
		r := request{kind: kindLend, network: n.ID, loan: 77, addr: want}
		if got, err := decodeAnswer(a.m.Serve(b.id, r.encode())); err != nil || got.outcome != outcomeYes {
			t.Fatalf("got %+v, %v", got, err)
		}
		time.Sleep(loanCheck - time.Second)
		synctest.Wait()
		if heldAt(a, n, want) == nil {
			t.Fatal("the loan ended before a minute")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if h := heldAt(a, n, want); h != nil {
			t.Errorf("after a minute: %+v", h)
		}
	})
}

// TestLenderThatTookItBackInTheMeantime is a borrower that is stopped between
// the lender's answer and the reservation for so long that the lender gives the
// address away.
func TestLenderThatTookItBackInTheMeantime(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "")
		want := inBlock(a, 3)
		w.set(func() {
			w.lent = func() {
				w.set(func() { w.lent = nil })
				time.Sleep(2 * loanCheck)
				synctest.Wait()
				mustLease(t, a, n, owner(3), want.String())
			}
		})
		// Not Lease: its deadline is of the clock that stands still with the
		// borrower, and here time goes on for both.
		key := ownerKey{owner(2), false}
		ctx, nw, leave := b.m.nets.enter(t.Context(), n)
		h, _, err := nw.slot(ctx, key)
		if err == nil {
			err = b.m.lender.reserve(ctx, nw, h, want)
			nw.finish(key, h, err)
		}
		leave()
		if taken, ok := errors.AsType[*TakenError](err); !ok || taken.Host != a.id || taken.Endpoint != owner(3) {
			t.Errorf("got %v, want taken by the lender's endpoint", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.pool.heldAddrs(); len(got) != 0 {
			t.Errorf("still reserved: %v", got)
		}
	})
}

func TestDelayedReturnDoesNotEndANewerLoan(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "")
		want := inBlock(a, 3)
		mustLease(t, b, n, owner(2), want.String())
		loan := heldAt(b, n, want).loan
		late := request{kind: kindReturn, network: n.ID, loan: loan, addr: want}
		mustFree(t, b, n, owner(2))
		synctest.Wait()
		mustLease(t, b, n, owner(2), want.String())
		a.m.Serve(b.id, late.encode())
		if h := heldAt(a, n, want); h == nil || h.host != b.id {
			t.Errorf("the newer loan ended at once: %+v", h)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if h := heldAt(a, n, want); h == nil || h.host != b.id {
			t.Errorf("the newer loan ended: %+v", h)
		}
	})
}

func TestRestartedContainerKeepsItsStaticAddressWhileThePoolIsAway(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "192.0.2.200")
		h.halt() // nobody tells the pool in between
		w.pool.set(func() { w.pool.hang = true })
		mustFree(t, h, n, owner(1))
		mustLease(t, h, n, owner(2), "192.0.2.200")
		if got := records(t, h.db, bucketReturns); got != 0 {
			t.Errorf("%d returns are queued", got)
		}
	})
}

func TestReservationThatItsHostForgotIsCleared(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "")
		synctest.Wait()
		want := netip.MustParseAddr("192.0.2.200")
		stale := reservation{discovery.Reservation{Host: a.id, Seq: 1}, n.ID, want}
		w.pool.set(func() { w.pool.reserved[addrName(n.ID, want)] = stale })

		w.set(func() { w.dead[a.id] = true })
		if _, err := b.m.Lease(t.Context(), n, owner(2), want); !strings.Contains(err.Error(), "taken by host1") && !strings.Contains(err.Error(), "taken on host1") {
			t.Errorf("its host is suspended: got %v, want taken", err)
		}
		w.set(func() { delete(w.dead, a.id) })
		if got := mustLease(t, b, n, owner(2), want.String()); got != want {
			t.Errorf("its host is alive and forgot it: got %s", got)
		}
	})
}

// A request that is on its way when the agent is killed may reach the pool after
// the next agent has given back what it found written down.
func TestReservationThatArrivesAfterTheKillIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n, want := w.hosts[0], blue(t, "192.0.2.0/24"), netip.MustParseAddr("192.0.2.200")
		var asked atomic.Int32 // there and back for the block of the address, then there with the reservation
		w.pool.set(func() {
			w.pool.delay = func() time.Duration {
				if asked.Add(1) == 3 {
					return 3 * time.Second
				}
				return 0
			}
		})
		m, over := h.m, make(chan struct{})
		go func() {
			defer close(over)
			if l, err := m.Lease(t.Context(), n, owner(1), want); err == nil {
				t.Errorf("the killed agent got %s", l.Addr)
			}
		}()
		time.Sleep(time.Second)
		old := h.kill(filepath.Join(dir, "killed.db"))
		<-over
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		if len(w.pool.heldAddrs()) != 1 {
			t.Fatal("the late reservation did not arrive")
		}
		time.Sleep(rereadTime + time.Second)
		synctest.Wait()
		if left := w.pool.heldAddrs(); len(left) > 0 {
			t.Errorf("leaked in the pool: %v", left)
		}
	})
}

func TestClaimWhoseAnswerWasLostIsAdopted(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		lost := 1
		w.pool.set(func() {
			w.pool.fault = func() fault {
				if lost--; lost == 0 {
					return faultAfter
				}
				return faultNone
			}
		})
		mustLease(t, h, n, owner(1), "")
		synctest.Wait()
		if len(w.pool.heldBlocks()) != 1 || len(h.m.Held()) != 1 {
			t.Errorf("the pool has %d blocks, the host %d, want one each", len(w.pool.heldBlocks()), len(h.m.Held()))
		}
	})
}

func TestBlockThatThePoolGaveToAnotherIsNotServed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		first := mustLease(t, h, n, owner(1), "")
		b := h.m.Held()[0]
		h.halt()
		w.pool.set(func() {
			name := blockName(n.ID, b.Prefix)
			other := w.pool.blocks[name]
			other.Host, other.Index = hostID(99), other.Index+100
			w.pool.blocks[name] = other
		})
		h.restart()
		h.run()
		synctest.Wait()
		if a := mustLease(t, h, n, owner(2), ""); b.Prefix.Contains(a) {
			t.Errorf("%s was given out of a block that is another's", a)
		}
		if a := mustLease(t, h, n, owner(1), ""); a != first {
			t.Errorf("the lease in it: got %s, want %s as before", a, first)
		}
		mustFree(t, h, n, owner(1))
		time.Sleep(drainTime + time.Minute)
		synctest.Wait()
		if got := w.pool.heldBlocks()[blockName(n.ID, b.Prefix)]; got.Host != hostID(99) {
			t.Errorf("another's block was released: %+v", got)
		}
	})
}

func TestWipedPoolGetsItsReservationsAgain(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		h, n := w.hosts[0], blue(t, "192.0.2.0/24")
		mustLease(t, h, n, owner(1), "192.0.2.200")
		mustLease(t, h, n, owner(2), "")
		synctest.Wait()
		held := h.m.Held()
		w.pool.set(func() { clear(w.pool.blocks); clear(w.pool.reserved) })
		time.Sleep(rereadTime)
		synctest.Wait()
		if got := w.pool.heldAddrs()[addrName(n.ID, netip.MustParseAddr("192.0.2.200"))]; got.Host != h.id {
			t.Errorf("got %+v, want our reservation again", got)
		}
		// The agent writes the blocks again, with a new index.
		w.pool.set(func() {
			for _, b := range held {
				b.Index = 1000
				w.pool.blocks[blockName(n.ID, b.Prefix)] = b
			}
		})
		time.Sleep(loanCheck + time.Second)
		synctest.Wait()
		if got := h.m.Held(); len(got) != 1 || got[0].Index != 1000 || isLost(h, n) {
			t.Errorf("got %+v, want the block of index 1000 in force", got)
		}
	})
}

// The lender of an address asks late about a reservation that has gone back
// already, while Run is busy with a pool that does not answer.
func TestReturnThatACheckQueuedIsNotLeased(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b, n := w.hosts[0], w.hosts[1], blue(t, "192.0.2.0/24")
		mustLease(t, a, n, owner(1), "192.0.2.201")
		x := mustLease(t, a, n, owner(2), "192.0.2.200")
		mustFree(t, a, n, owner(2))
		synctest.Wait()
		if _, ok := w.pool.heldAddrs()[addrName(n.ID, x)]; ok {
			t.Fatal("not given back")
		}
		w.pool.set(func() { w.pool.hang = true })
		mustFree(t, a, n, owner(1))
		synctest.Wait()
		a.serve(b.id, request{kind: kindCheck, network: n.ID, addr: x}.encode())
		time.AfterFunc(time.Second, func() { w.pool.set(func() { w.pool.hang = false }) })
		if l, err := a.m.Lease(t.Context(), n, owner(3), x); err == nil {
			if r := w.pool.heldAddrs()[addrName(n.ID, x)]; r.Host != a.id {
				t.Errorf("%s has %s and the pool does not know", a.name, l.Addr)
			}
		}
		w.pool.set(func() { w.pool.hang = false })
	})
}

func TestMessagesThatCannotBe(t *testing.T) {
	good := request{kind: kindLend, network: discovery.NetworkID{1}, loan: 3, addr: netip.MustParseAddr("192.0.2.7")}.encode()
	for name, b := range map[string][]byte{
		"empty":               nil,
		"another version":     append([]byte{9}, good[1:]...),
		"a cut address":       good[:len(good)-1],
		"no such family":      append(append(slices.Clone(good[:26]), 5), good[27:]...),
		"family and address":  append(append(slices.Clone(good[:26]), 6), good[27:]...),
		"IPv4 in IPv6 clothe": append(append(slices.Clone(good[:26]), 6), netip.MustParseAddr("::ffff:192.0.2.7").AsSlice()...),
	} {
		if r, err := decodeRequest(b); !errors.Is(err, discovery.ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(request{kind: kindLend, network: discovery.NetworkID{1}, loan: 3, addr: netip.MustParseAddr("192.0.2.7")}.encode())
	f.Add(request{kind: kindReturn, v6: true, addr: netip.MustParseAddr("2001:db8::1")}.encode())
	f.Add(answer{outcome: outcomeTaken, host: discovery.HostID{1}, endpoint: discovery.EndpointID{2}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRequest(b); err == nil && string(r.encode()) != string(b) {
			t.Errorf("request %x became %x", b, r.encode())
		}
		if a, err := decodeAnswer(b); err == nil && string(a.encode()) != string(b) {
			t.Errorf("answer %x became %x", b, a.encode())
		}
	})
}
