package ipam

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weft-net/weft/discovery/pace"
)

// keeper keeps what is in hand in agreement with the pool: it claims blocks,
// gives back, and compares. Its goroutine is the one in run; claim is called by
// the lessor's callers too.
type keeper struct {
	*shared
	lender *lender

	// Of run's goroutine alone.
	quiet   time.Time // nothing is done before: something failed
	backoff pace.Backoff
}

func (k *keeper) run(ctx context.Context) error {
	for {
		if err := k.pass(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("addresses not settled with the pool", "err", err)
		}
		t := time.NewTimer(time.Until(k.nextPass(time.Now())))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-k.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// pass does all that is due. After a failure, of the pool or of the disk, it
// leaves both alone for a while.
func (k *keeper) pass(ctx context.Context) error {
	if time.Now().Before(k.quiet) {
		return nil
	}
	err := k.reconcile(ctx)
	if err == nil {
		k.backoff.Worked()
		return nil
	}
	k.quiet = time.Now().Add(k.backoff.Failed())
	return err
}

// reconcile brings hand and pool into agreement. It stops at the first failure: the
// rest would only wait for the same pool.
func (k *keeper) reconcile(ctx context.Context) error {
	for _, do := range []func(context.Context, *network) error{k.tidy, k.reread} {
		if err := k.visitAll(ctx, do); err != nil {
			return err
		}
	}
	if err := k.giveBack(ctx); err != nil {
		return err
	}
	return k.visitAll(ctx, k.claimAhead)
}

// visitAll does one thing to each network, as long as it still is one.
func (k *keeper) visitAll(ctx context.Context, do func(context.Context, *network) error) error {
	for _, nw := range k.nets.list() {
		if err := k.visit(ctx, nw, do); err != nil {
			return fmt.Errorf("network %s: %w", nw.spec().Name, err)
		}
	}
	return nil
}

func (k *keeper) visit(ctx context.Context, nw *network, do func(context.Context, *network) error) error {
	ctx, leave, ok := k.nets.join(ctx, nw, nil)
	if !ok {
		return nil
	}
	defer leave()
	if err := do(ctx, nw); !errors.Is(err, ErrDeleting) {
		return err
	}
	return nil
}

// tidy needs the disk alone: addresses past their quarantine lose their record,
// drained blocks go to the queue.
func (k *keeper) tidy(_ context.Context, nw *network) error {
	now := time.Now()
	nw.mu.Lock()
	var changes []Change
	for _, b := range nw.blocks {
		for _, a := range b.pastQuarantine(now) {
			changes = append(changes, forgetRest(nw.id, a))
		}
	}
	nw.mu.Unlock()
	if len(changes) > 0 {
		if err := k.cfg.Disk.Commit(changes...); err != nil {
			return fmt.Errorf("forget rested addresses: %w", err)
		}
	}
	for {
		if more, err := k.queueDrained(nw, now); !more || err != nil {
			return err
		}
	}
}

// queueDrained queues one drained block to be given back; false when there is
// none.
func (k *keeper) queueDrained(nw *network, now time.Time) (bool, error) {
	nw.mu.Lock()
	b := nw.cutDrained(now)
	if b == nil {
		nw.mu.Unlock()
		return false, nil
	}
	g := k.newReturn(nw, returnRecord{Block: b.Prefix, Index: b.Index, Seq: b.Seq})
	g.busy = true
	changes := []Change{deleteBlock(nw.id, b.Prefix), putReturn(g.number, g.what)}
	for _, r := range b.freed {
		changes = append(changes, forgetRest(nw.id, b.addr(r.at)))
	}
	nw.mu.Unlock()
	err := k.cfg.Disk.Commit(changes...)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	g.busy = false
	if err != nil {
		delete(nw.returns, g.number)
		nw.blocks = append(nw.blocks, b)
		return true, fmt.Errorf("give back block %s: %w", b.Prefix, err)
	}
	k.changes.Set()
	return true, nil
}

// claimAhead claims the next block where the ones in hand are nearly used up.
func (k *keeper) claimAhead(ctx context.Context, nw *network) error {
	nw.mu.Lock()
	want, have := nw.wantsAhead(time.Now()), nw.openBlocks()
	nw.mu.Unlock()
	if !want {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	err := k.claim(ctx, nw, have)
	if errors.Is(err, ErrFull) {
		nw.mu.Lock()
		defer nw.mu.Unlock()
		nw.aheadAt = time.Now().Add(fullRetry) // others may give a block back
		return nil
	}
	return away(ctx, err)
}

// nextPass is when run has something to do if nothing wakes it.
func (k *keeper) nextPass(now time.Time) time.Time {
	next := now.Add(rereadTime)
	k.nets.each(func(nw *network) {
		nw.nextPass(now, func(at time.Time, ok bool) {
			if ok && at.Before(next) {
				next = at
			}
		})
	})
	if next.Before(k.quiet) {
		return k.quiet
	}
	return next
}

// nextPass tells when the keeper has something to do for the network. mu is held.
func (nw *network) nextPass(now time.Time, sooner func(at time.Time, ok bool)) {
	for _, g := range nw.returns {
		sooner(now, !g.busy)
	}
	if !nw.life.known {
		return
	}
	sooner(nw.rereadAt, true)
	sooner(now, nw.wantsAhead(now))
	sooner(nw.aheadAt, nw.wantsAhead(nw.aheadAt))
	for _, b := range nw.blocks {
		at, ok := b.drained()
		sooner(at, ok && nw.spare(b))
		sooner(b.nextPast())
	}
}
