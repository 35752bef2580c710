package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// pendingReturn is something that goes back to the pool or to its lender. Its
// record is written before the pool or the lender is asked for the thing, so
// that a crash in between leaks nothing: after a restart what no lease took up
// is given back.
type pendingReturn struct {
	number uint64
	what   returnRecord
	busy   bool // a request is still at it, or the keeper is
	tried  bool // the pool may have been told already
}

// isBlock reports whether a block goes back, else an address does.
func (g *pendingReturn) isBlock() bool { return g.what.Block.IsValid() }

func (g *pendingReturn) String() string {
	if g.isBlock() {
		return "block " + g.what.Block.String()
	}
	return "address " + g.what.Addr.String()
}

// newReturn registers w under a new number. nw.mu is held.
func (s *shared) newReturn(nw *network, w returnRecord) *pendingReturn {
	g := &pendingReturn{number: s.number.Add(1), what: w}
	g.what.Network = nw.id
	if g.what.Loan == 0 && !g.isBlock() {
		g.what.Loan = g.number
	}
	nw.returns[g.number] = g
	return g
}

// intend writes down that an address of nw is about to be got, and must be
// given back if nothing comes of it. The network is written with it: a request
// that is still under way when this process dies may reach the pool after the
// next process gave the address back, and only its readings of the network find
// that.
func (s *shared) intend(nw *network, w returnRecord) (*pendingReturn, error) {
	nw.mu.Lock()
	g := s.newReturn(nw, w)
	g.busy, g.tried = true, true
	nw.mu.Unlock()
	err := s.cfg.Disk.Commit(putNetwork(nw.spec()), putReturn(g.number, g.what))
	if err == nil {
		return g, nil
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	delete(nw.returns, g.number)
	return nil, err
}

// returnStray queues the end of a reservation of ours that nothing here knows
// of, so that others find the address free. Nor is it known here whether the
// reservation stands still, so no lease may take it up.
func (s *shared) returnStray(nw *network, a netip.Addr) error {
	nw.mu.Lock()
	if nw.held[a] != nil {
		nw.mu.Unlock()
		return nil
	}
	g := s.newReturn(nw, returnRecord{Addr: a, V6: a.Is6()})
	g.busy, g.tried = true, true
	nw.holdBack(g)
	nw.mu.Unlock()
	err := s.cfg.Disk.Commit(putReturn(g.number, g.what))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	g.busy = false // unwritten it is told all the same: what is lost by a crash is found again
	s.wake.Set()
	return err
}

// giveBack does what can be done of the returns, the oldest first; it stops when
// the pool is away. Only the keeper's goroutine calls it: who alone takes things
// back cannot race himself.
func (k *keeper) giveBack(ctx context.Context) error {
	type idle struct {
		nw *network
		g  *pendingReturn
	}
	var all []idle
	k.nets.each(func(nw *network) {
		for _, g := range nw.returns {
			if !g.busy {
				all = append(all, idle{nw, g})
			}
		}
	})
	slices.SortFunc(all, func(a, b idle) int { return int(int64(a.g.number - b.g.number)) })
	for _, i := range all {
		if err := k.giveBackOne(ctx, i.nw, i.g); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) giveBackOne(ctx context.Context, nw *network, g *pendingReturn) error {
	nw.mu.Lock()
	if nw.returns[g.number] != g || g.busy {
		nw.mu.Unlock()
		return nil // leased again in the meantime
	}
	g.busy, g.tried = true, true
	nw.mu.Unlock()

	err := k.tell(ctx, nw, g)
	if err != nil {
		nw.mu.Lock()
		defer nw.mu.Unlock()
		g.busy = false
		return fmt.Errorf("give back %s: %w", g, err)
	}
	k.nets.forget(nw) // if it was dropped and this was the last of it
	return nil
}

// tell tells the pool and the lender, and forgets g. While a block goes back
// nobody else reads or claims blocks of the network.
func (k *keeper) tell(ctx context.Context, nw *network, g *pendingReturn) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	if g.isBlock() {
		if err := nw.lockBlocks(ctx); err != nil {
			return err
		}
		defer nw.unlockBlocks()
	}
	if err := k.tellPool(ctx, g); err != nil {
		return away(ctx, err)
	}
	if !g.isBlock() {
		// After the pool: once the lender knows, it may give the address out, so
		// the reservation must be gone before.
		k.lender.tellLender(ctx, g.what)
	}
	if err := k.cfg.Disk.Commit(deleteReturn(g.number)); err != nil {
		return err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	delete(nw.returns, g.number)
	if h := nw.held[g.what.Addr]; h != nil && h.back == g {
		nw.release(h, false)
	}
	return nil
}

func (k *keeper) tellPool(ctx context.Context, g *pendingReturn) error {
	w := g.what
	switch {
	case g.isBlock():
		return k.releaseBlock(ctx, discovery.Block{
			Network: w.Network, Prefix: w.Block, Host: k.cfg.Self, State: discovery.BlockActive, Seq: w.Seq, Index: w.Index,
		})
	case w.Addr.IsValid():
		return k.cfg.Pool.Unreserve(ctx, w.Network, w.Addr, k.cfg.Self)
	}
	return nil
}

// releaseBlock is ReleaseBlock, whose answer may have been lost last time: a
// block that the pool no longer counts as ours has gone back.
func (k *keeper) releaseBlock(ctx context.Context, b discovery.Block) error {
	err := k.cfg.Pool.ReleaseBlock(ctx, b)
	if err == nil || errors.Is(err, ErrStoreAway) || ctx.Err() != nil {
		return err
	}
	all, listErr := k.cfg.Pool.Blocks(ctx, discovery.Network{ID: b.Network})
	if listErr != nil {
		return err
	}
	for _, now := range all {
		if now.Prefix == b.Prefix && now.Host == k.cfg.Self {
			return k.cfg.Pool.ReleaseBlock(ctx, now) // written again since: a wiped pool was filled
		}
	}
	return nil
}
