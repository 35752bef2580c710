package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// lessor gives addresses to this host's endpoints and takes them back.
type lessor struct {
	*shared
	lender *lender // for addresses that are not in hand
	keeper *keeper // for more blocks
}

func (l *lessor) lease(ctx context.Context, n discovery.Network, owner discovery.EndpointID, want netip.Addr) (Lease, error) {
	if err := wanted(n, want); err != nil {
		return Lease{}, err
	}
	ctx, nw, leave := l.nets.enter(ctx, n)
	defer leave()
	key := ownerKey{owner, want.Is6()}
	h, fresh, err := nw.slot(ctx, key)
	if err == nil && fresh {
		err = l.fillSlot(ctx, nw, key, h, want)
	}
	if err == nil && want.IsValid() && h.addr != want {
		err = fmt.Errorf("%w: %s", ErrOther, h.addr)
	}
	if err != nil {
		return Lease{}, err
	}
	out := nw.leaseOf(h)
	if fresh {
		l.cfg.Noted(ctx, Owned{Lease: out, Network: n.ID, Owner: owner}, false)
	}
	return out, nil
}

// fillSlot fills a fresh slot. The next request of the owner waits for it, so it is
// finished whatever happens.
func (l *lessor) fillSlot(ctx context.Context, nw *network, key ownerKey, h *holding, want netip.Addr) (err error) {
	defer func() { nw.finish(key, h, err) }()
	defer caught(l.cfg.Log, "lease", &err)
	return l.fill(ctx, nw, h, want)
}

// wanted checks what can be said without looking at who holds what.
func wanted(n discovery.Network, want netip.Addr) error {
	if n.State == discovery.NetworkDeleting {
		return ErrDeleting
	}
	if !want.IsValid() {
		if _, ok := subnet4(n); !ok {
			return fmt.Errorf("any address of IPv4: %w", ErrOutside)
		}
		return nil
	}
	s, ok := n.Covering(want)
	if !ok {
		return fmt.Errorf("address %s: %w", want, ErrOutside)
	}
	if !s.Assignable(want) {
		return fmt.Errorf("address %s: %w", want, ErrReserved)
	}
	return nil
}

// subnet4 is the subnet that any address is of.
func subnet4(n discovery.Network) (discovery.Subnet, bool) {
	for _, s := range n.Subnets {
		if s.CIDR.Addr().Is4() {
			return s, true
		}
	}
	return discovery.Subnet{}, false
}

// fill finds the slot an address and persists it.
func (l *lessor) fill(ctx context.Context, nw *network, h *holding, want netip.Addr) error {
	if want.IsValid() {
		return l.fillThis(ctx, nw, h, want)
	}
	if taken, _ := l.take(nw, h); taken {
		return l.persist(nw, h)
	}
	for {
		err := l.fillAway(ctx, nw, h)
		if !errors.Is(err, ErrFull) || !awaitQuarantine(ctx, nw) {
			return err
		}
	}
}

// fillAway gets an address that is not in hand: out of a new block, or of
// another host's.
func (l *lessor) fillAway(ctx context.Context, nw *network, h *holding) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	for {
		taken, have := l.take(nw, h)
		if taken {
			return l.persist(nw, h)
		}
		err := retry(ctx, func() error { return l.keeper.claim(ctx, nw, have) })
		if errors.Is(err, ErrFull) {
			if taken, _ := l.take(nw, h); taken { // the last block has just become ours
				return l.persist(nw, h)
			}
			return l.lender.borrowAny(ctx, nw, h)
		}
		if err != nil {
			return err
		}
	}
}

// retry tries again while the pool is away and ctx lives: an election of its
// leader takes seconds, and the caller has five.
func retry(ctx context.Context, try func() error) error {
	backoff := pace.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	for {
		err := away(ctx, try())
		if !errors.Is(err, ErrStoreAway) || !pace.Sleep(ctx, backoff.Failed()) {
			return err
		}
	}
}

// take gives h an address in hand; have is the number of blocks that it looked
// at.
func (l *lessor) take(nw *network, h *holding) (taken bool, have int) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	now := time.Now()
	if !nw.take(h, now) {
		return false, nw.openBlocks()
	}
	if nw.wantsAhead(now) {
		l.wake.Set()
	}
	return true, 0
}

// persist writes down that h has an address of a block in hand.
func (l *lessor) persist(nw *network, h *holding) error {
	err := l.cfg.Disk.Commit(putAddress(nw.id, h.addr, h.record()))
	if err != nil {
		nw.mu.Lock()
		defer nw.mu.Unlock()
		nw.untake(h)
	}
	return err
}

// awaitQuarantine waits until the next quarantine of an address in hand has
// ended; false when there is none or ctx ended.
func awaitQuarantine(ctx context.Context, nw *network) bool {
	nw.mu.Lock()
	next := nw.nextFree()
	nw.mu.Unlock()
	return !next.IsZero() && pace.Sleep(ctx, time.Until(next))
}
