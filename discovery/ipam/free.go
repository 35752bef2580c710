package ipam

import (
	"context"
	"fmt"

	"github.com/weft-net/weft/discovery"
)

func (l *lessor) free(ctx context.Context, n discovery.NetworkID, owner discovery.EndpointID) error {
	ctx, nw, leave, ok := l.nets.find(ctx, n)
	if !ok {
		return nil
	}
	defer leave()
	for _, v6 := range []bool{false, true} {
		if err := l.freeOne(ctx, nw, ownerKey{owner, v6}); err != nil {
			return fmt.Errorf("free addresses of endpoint %s in %s: %w", owner, nw.spec().Name, err)
		}
	}
	return nil
}

func (l *lessor) freeOne(ctx context.Context, nw *network, key ownerKey) error {
	h, err := nw.busyLease(ctx, key)
	if h == nil || err != nil {
		return err
	}
	ended := Owned{Lease: nw.leaseOf(h), Network: nw.id, Owner: key.id}
	if h.reserved {
		err = l.freeReserved(nw, h)
	} else {
		err = l.freeInHand(nw, h)
	}
	if err == nil {
		l.cfg.Noted(ctx, ended, true)
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err == nil {
		delete(nw.owners, key)
	}
	nw.markIdle(h)
	l.wake.Set()
	return err
}

func (l *lessor) freeInHand(nw *network, h *holding) error {
	if err := l.cfg.Disk.Commit(putAddress(nw.id, h.addr, addressRecord{State: stateResting})); err != nil {
		return err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.release(h, true)
	return nil
}

// freeReserved queues the end of the reservation. Until the pool and the
// lender know, the address counts as taken.
func (l *lessor) freeReserved(nw *network, h *holding) error {
	nw.mu.Lock()
	g := l.newReturn(nw, returnRecord{Addr: h.addr, V6: h.addr.Is6(), Seq: h.seq, Lender: h.host, Loan: h.loan})
	g.busy = true
	nw.mu.Unlock()
	err := l.cfg.Disk.Commit(deleteAddress(nw.id, h.addr), putReturn(g.number, g.what))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err != nil {
		delete(nw.returns, g.number)
		return err
	}
	g.busy = false
	nw.held[h.addr] = &holding{addr: h.addr, reserved: true, back: g}
	return nil
}
