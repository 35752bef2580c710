package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/weft-net/weft/discovery"
)

// network is what this host holds of one network. Its mutex owns every fact
// about it; it is held for a look or a change, never while the pool, a member
// or the disk is asked. What takes longer is noted as a state (a holding or a
// return is busy, the blocks are locked, the network has users), and wait waits
// until that state has ended.
type network struct {
	id     discovery.NetworkID
	latest atomic.Pointer[discovery.Network] // as the last request gave it
	claims singleflight.Group                // the claim under way, for all who need a block

	mu      sync.Mutex    // guards what follows, with the holdings, blocks and returns in it
	changed chan struct{} // closed when a state ends that somebody waits for; nil: nobody waits
	life    life
	hand
	returns map[uint64]*pendingReturn

	// blocksLocked is set by whoever claims, adopts or gives back blocks of the
	// network: nothing may be taken up from an older look at the pool that was
	// given back since.
	blocksLocked bool
	claimInDoubt bool      // the pool may hold a block for this host that it does not know
	gen          uint64    // counts what could make an older read of the pool wrong
	loanEnded    uint64    // gen of the last loan that ended
	rereadAt     time.Time // no later is the network compared with the pool
	aheadAt      time.Time // no claim ahead of need before
}

// life says whether the network exists and who works on it.
type life struct {
	known     bool // it exists: else it was dropped, and only returns are left
	dropping  bool // drop waits for the users, or for the disk
	forgotten bool // networks.all has it no more
	users     int
	gone      context.Context // tells the users to end
	end       context.CancelFunc
}

func newNetwork(n discovery.Network) *network {
	nw := &network{id: n.ID, hand: newHand(), returns: map[uint64]*pendingReturn{}}
	nw.latest.Store(&n)
	return nw
}

func (nw *network) spec() discovery.Network { return *nw.latest.Load() }

// begin makes the network known. mu is held.
func (nw *network) begin() {
	nw.life.known = true
	nw.life.gone, nw.life.end = context.WithCancel(context.Background())
}

// addUser counts a user, so that drop waits for it; gone tells the user to end.
// With n the network becomes known if it was not.
func (nw *network) addUser(n *discovery.Network) (gone context.Context, ok bool) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	_ = nw.wait(context.Background(), func() bool { return !nw.life.dropping })
	if nw.life.forgotten || n == nil && !nw.life.known {
		return nil, false
	}
	if n != nil {
		nw.latest.Store(n)
	}
	if !nw.life.known {
		nw.begin()
		if len(nw.held) == 0 { // else its record was lost, and what the pool has of it counts
			nw.rereadAt = time.Now().Add(rereadTime)
		}
	}
	nw.life.users++
	return nw.life.gone, true
}

func (nw *network) removeUser() {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if nw.life.users--; nw.life.users == 0 {
		nw.wakeWaiters()
	}
}

// wait waits until ready, which reads what mu guards, is true; ctx's error when
// that ends first. mu is held, except while it waits.
func (nw *network) wait(ctx context.Context, ready func() bool) error {
	for !ready() {
		if nw.changed == nil {
			nw.changed = make(chan struct{})
		}
		changed := nw.changed
		nw.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		nw.mu.Lock()
		if err := ctx.Err(); err != nil && !ready() {
			return err
		}
	}
	return nil
}

// wakeWaiters makes those in wait look again. mu is held.
func (nw *network) wakeWaiters() {
	if nw.changed != nil {
		close(nw.changed)
		nw.changed = nil
	}
}

// markIdle ends what was being done to h. mu is held.
func (nw *network) markIdle(h *holding) {
	h.busy = false
	nw.wakeWaiters()
}

// lockBlocks waits until it alone may change which blocks are in hand; when it
// returns nil unlockBlocks must follow.
func (nw *network) lockBlocks(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return away(ctx, err)
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err := nw.wait(ctx, func() bool { return !nw.blocksLocked }); err != nil {
		return away(ctx, err)
	}
	nw.blocksLocked = true
	return nil
}

func (nw *network) unlockBlocks() {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.blocksLocked = false
	nw.wakeWaiters()
}

// slot returns the owner's lease, or a fresh slot that the caller must finish.
// Two requests of one owner are served one after the other.
func (nw *network) slot(ctx context.Context, key ownerKey) (h *holding, fresh bool, err error) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	h, err = nw.idleLease(ctx, key)
	if h != nil || err != nil {
		return h, false, away(ctx, err)
	}
	h = &holding{state: stateLeased, owner: key.id, busy: true}
	nw.owners[key] = h
	return h, true, nil
}

// finish ends what slot began.
func (nw *network) finish(key ownerKey, h *holding, err error) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err != nil {
		delete(nw.owners, key)
	}
	nw.markIdle(h)
}

// busyLease returns the owner's lease made busy, nil if it has none.
func (nw *network) busyLease(ctx context.Context, key ownerKey) (*holding, error) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	h, err := nw.idleLease(ctx, key)
	if h != nil {
		h.busy = true
	}
	return h, err
}

// idleLease waits until no request is at the owner's lease and returns it, nil if
// it has none. mu is held.
func (nw *network) idleLease(ctx context.Context, key ownerKey) (*holding, error) {
	err := nw.wait(ctx, func() bool { return nw.owners[key] == nil || !nw.owners[key].busy })
	if err != nil {
		return nil, err
	}
	return nw.owners[key], nil
}

func (nw *network) leaseOf(h *holding) Lease {
	s, _ := nw.spec().Covering(h.addr)
	return Lease{Addr: netip.PrefixFrom(h.addr, s.CIDR.Bits()), Seq: h.seq}
}

// rereadBy puts the next reading no later than at. mu is held.
func (nw *network) rereadBy(at time.Time) {
	if at.Before(nw.rereadAt) {
		nw.rereadAt = at
	}
}

// wantsAhead reports whether the next block should be claimed before it is
// needed, and nobody is at the blocks. mu is held.
func (nw *network) wantsAhead(now time.Time) bool {
	return nw.nearlyUsedUp() && !nw.blocksLocked && !now.Before(nw.aheadAt)
}

// rereadSoon makes the keeper compare the network with the pool.
func (s *shared) rereadSoon(nw *network, in time.Duration) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.rereadBy(time.Now().Add(in))
	s.wake.Set()
}

// away makes a deadline that ran out while the pool was asked an ErrStoreAway,
// and a network that was dropped meanwhile an ErrDeleting.
func away(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), ErrDeleting):
		return ErrDeleting
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrStoreAway):
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return err
}
