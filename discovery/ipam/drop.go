package ipam

import (
	"context"
	"fmt"

	"github.com/weft-net/weft/discovery"
)

func (k *keeper) drop(n discovery.NetworkID) error {
	k.nets.mu.Lock()
	nw := k.nets.all[n]
	k.nets.mu.Unlock()
	if nw == nil {
		return nil
	}
	if err := k.dropOne(nw); err != nil {
		return fmt.Errorf("drop network %s: %w", nw.spec().Name, err)
	}
	k.nets.forget(nw) // unless something of it must go back first
	k.changes.Set()
	k.wake.Set()
	return nil
}

func (k *keeper) dropOne(nw *network) error {
	changes, returns, known := k.beginDrop(nw)
	if !known {
		return nil
	}
	err := k.cfg.Disk.Commit(changes...)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.life.dropping = false
	nw.wakeWaiters()
	for _, g := range returns {
		if g.busy = false; err != nil {
			delete(nw.returns, g.number)
		}
	}
	if err != nil {
		nw.begin()
		return err
	}
	nw.life.known, nw.claimInDoubt, nw.hand = false, false, newHand()
	for _, g := range nw.returns {
		if g.what.Addr.IsValid() {
			nw.holdBack(g)
		}
	}
	return nil
}

// beginDrop ends the network's users, waits for them, and lists what is to be
// written and given back; known is false when there is nothing to drop. Nobody
// becomes a user until dropping is over.
func (k *keeper) beginDrop(nw *network) (changes []Change, returns []*pendingReturn, known bool) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	_ = nw.wait(context.Background(), func() bool { return !nw.life.dropping })
	if !nw.life.known {
		return nil, nil, false
	}
	nw.life.dropping = true
	nw.life.end()
	_ = nw.wait(context.Background(), func() bool { return nw.life.users == 0 })

	changes = append(changes, deleteNetwork(nw.id))
	add := func(w returnRecord) {
		g := k.newReturn(nw, w)
		g.busy = true
		returns = append(returns, g)
		changes = append(changes, putReturn(g.number, g.what))
	}
	for _, h := range nw.held {
		if h.state == stateLeased && h.reserved {
			add(returnRecord{Addr: h.addr, V6: h.addr.Is6(), Seq: h.seq, Lender: h.host, Loan: h.loan})
		}
	}
	for _, b := range nw.blocks {
		add(returnRecord{Block: b.Prefix, Index: b.Index, Seq: b.Seq})
	}
	return changes, returns, true
}
