package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"github.com/weft-net/weft/discovery"
)

// claim adds a block to those in hand. have is the number of blocks that did not
// suffice; when there is another number by now, claim does nothing. Callers at the
// same time share one claim, so a burst of leases does not take blocks that it will
// not fill.
func (k *keeper) claim(ctx context.Context, nw *network, have int) error {
	var mine atomic.Bool
	done := nw.claims.DoChan("", func() (_ any, err error) {
		mine.Store(true)
		defer caught(k.cfg.Log, "claim block", &err) // those who share it must hear of it
		return nil, k.claimAlone(ctx, nw, have)
	})
	var got singleflight.Result
	select {
	case got = <-done:
	case <-ctx.Done():
		if !mine.Load() {
			return ctx.Err()
		}
		got = <-done // it ends with ctx, and no claim outlives who asked for it
	}
	if errors.Is(got.Err, context.Canceled) && ctx.Err() == nil {
		return nil // whose claim it was went away, this caller did not: look again
	}
	return got.Err
}

func (k *keeper) claimAlone(ctx context.Context, nw *network, have int) error {
	if err := nw.lockBlocks(ctx); err != nil {
		return err
	}
	defer nw.unlockBlocks()
	nw.mu.Lock()
	changed := nw.openBlocks() != have
	nw.mu.Unlock()
	if changed {
		return nil
	}
	if gained, err := k.catchUp(ctx, nw); gained || err != nil {
		return err
	}
	n, v := nw.spec(), k.cfg.View()
	nw.mu.Lock()
	taken := k.takenBlocks(nw, v)
	nw.claimInDoubt = true // until we know what the pool did
	nw.mu.Unlock()

	// A disk that is full shall say so before the pool is asked. And a block
	// is never on disk without its network.
	if err := k.cfg.Disk.Commit(putNetwork(n)); err != nil {
		return err
	}
	b, err := k.cfg.Pool.ClaimBlock(ctx, n, k.cfg.Self, k.cfg.Nonce, false, taken)
	if errors.Is(err, ErrFull) {
		nw.endDoubt()
		return err
	}
	if err != nil {
		return fmt.Errorf("claim block: %w", away(ctx, err))
	}
	if err := k.adopt(ctx, nw, b); err != nil {
		return err
	}
	nw.endDoubt()
	return nil
}

// endDoubt notes that every block of ours in the pool is known here.
func (nw *network) endDoubt() {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.claimInDoubt = false
}

// takenBlocks returns what no claim may get: blocks without a usable address,
// our own, those on their way back, and those that any owner's header still
// advertises, suspended ones included. The view is the fence against a pool
// that was restored to its past. nw.mu is held.
func (k *keeper) takenBlocks(nw *network, v discovery.View) func(netip.Prefix) bool {
	taken := map[netip.Prefix]bool{}
	for host, blocks := range advertised(v, nw.id) {
		for _, p := range blocks {
			taken[p] = taken[p] || host != k.cfg.Self
		}
	}
	for _, b := range nw.blocks {
		taken[b.Prefix] = true
	}
	for _, g := range nw.returns {
		if g.isBlock() {
			taken[g.what.Block] = true
		}
	}
	n := nw.spec()
	return func(p netip.Prefix) bool {
		s, ok := n.Covering(p.Addr())
		return taken[p] || !ok || !s.Claimable(p)
	}
}

// catchUp adopts what the pool holds for this host and the host does not know: a
// claim whose answer was lost. Only then does another claim make sense.
func (k *keeper) catchUp(ctx context.Context, nw *network) (gained bool, err error) {
	nw.mu.Lock()
	inDoubt := nw.claimInDoubt
	nw.mu.Unlock()
	if !inDoubt {
		return false, nil
	}
	found, err := k.readBlocks(ctx, nw)
	if err != nil {
		return false, err
	}
	for _, b := range found {
		if err := k.adopt(ctx, nw, b); err != nil {
			return false, err
		}
		gained = gained || b.Prefix.Addr().Is4()
	}
	nw.endDoubt()
	return gained, nil
}

// readBlocks asks the pool which blocks of the network are ours, refreshes
// what we know of them, and returns those that are not in hand. The blocks are
// locked.
func (k *keeper) readBlocks(ctx context.Context, nw *network) (found []discovery.Block, err error) {
	all, err := k.cfg.Pool.Blocks(ctx, nw.spec())
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", away(ctx, err))
	}
	ours := map[netip.Prefix]discovery.Block{}
	for _, b := range all {
		if b.Host == k.cfg.Self {
			ours[b.Prefix] = b
		}
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	for _, g := range nw.returns {
		delete(ours, g.what.Block)
	}
	for _, b := range nw.blocks {
		now, held := ours[b.Prefix]
		delete(ours, b.Prefix)
		switch {
		case held:
			b.Block, b.lost = now, false
		case !b.lost:
			b.lost = true
			k.cfg.Log.Warn("block is not ours in the pool", "network", nw.spec().Name, "block", b.Prefix)
		}
	}
	for _, b := range ours {
		found = append(found, b)
	}
	return found, nil
}
