package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// reread compares what we hold of the network with what the pool says, when
// that is due.
func (k *keeper) reread(ctx context.Context, nw *network) error {
	now := time.Now()
	nw.mu.Lock()
	due := !now.Before(nw.rereadAt)
	if due {
		nw.rereadAt = now.Add(rereadTime)
	}
	nw.mu.Unlock()
	if !due {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	err := k.rereadBlocks(ctx, nw)
	if err == nil {
		err = k.rereadAddrs(ctx, nw)
	}
	if err != nil {
		nw.mu.Lock()
		nw.rereadBy(now)
		nw.mu.Unlock()
	}
	return away(ctx, err)
}

func (k *keeper) rereadBlocks(ctx context.Context, nw *network) error {
	if err := nw.lockBlocks(ctx); err != nil {
		return err
	}
	defer nw.unlockBlocks()
	found, err := k.readBlocks(ctx, nw)
	if err != nil {
		return err
	}
	for _, b := range found {
		if err := k.adopt(ctx, nw, b); err != nil {
			return err
		}
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.claimInDoubt = false
	for _, b := range nw.blocks {
		if b.lost {
			nw.rereadBy(time.Now().Add(lostRetry)) // a wiped pool may be being filled again
		}
	}
	return nil
}

// rereadAddrs compares the reservations: those of others mark addresses of our
// blocks, loans that nobody took up end, and reservations of ours that no
// lease needs are given back.
func (k *keeper) rereadAddrs(ctx context.Context, nw *network) error {
	for _, s := range nw.spec().Subnets {
		nw.mu.Lock()
		began := nw.gen
		nw.mu.Unlock()
		reserved, err := k.cfg.Pool.Reserved(ctx, nw.id, s.CIDR)
		if err != nil {
			return fmt.Errorf("read reservations: %w", err)
		}
		for a, r := range reserved {
			if err := k.rereadAddr(nw, a, r, began); err != nil {
				return err
			}
		}
		if err := k.endLoans(nw, s, reserved, began); err != nil {
			return err
		}
		if err := k.reserveAgain(ctx, nw, s, reserved, began); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) rereadAddr(nw *network, a netip.Addr, r discovery.Reservation, began uint64) error {
	if r.Host == k.cfg.Self {
		return k.returnStray(nw, a)
	}
	h := k.markLent(nw, a, r, began)
	if h == nil {
		return nil
	}
	err := k.cfg.Disk.Commit(putAddress(nw.id, a, h.record()))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.markIdle(h)
	return err
}

// markLent marks an address of ours that the pool reserves for another host:
// it was reserved before the block was claimed, or lent and forgotten.
func (k *keeper) markLent(nw *network, a netip.Addr, r discovery.Reservation, began uint64) *holding {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	b := nw.blockOf(a)
	if b == nil || nw.held[a] != nil {
		return nil
	}
	if nw.loanEnded > began {
		nw.rereadBy(time.Now().Add(time.Second)) // it may have been returned since
		return nil
	}
	b.takeThis(a)
	h := &holding{addr: a, state: stateLent, host: r.Host, seq: r.Seq, gen: nw.gen, busy: true}
	nw.held[a] = h
	return h
}

// endLoans ends the loans of which the pool knows nothing. A borrower has a
// minute to make the reservation; and what was lent or confirmed since the pool
// was read is too young to tell. What the borrower announces is in use though a
// wiped pool has forgotten it.
func (k *keeper) endLoans(nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) error {
	type use struct {
		addr netip.Addr
		host discovery.HostID
	}
	used := map[use]bool{}
	for a, host := range announced(k.cfg.View(), nw.id, s.CIDR) {
		used[use{a, host}] = true
	}
	nw.mu.Lock()
	var over []*holding
	for a, h := range nw.held {
		young := h.gen > began || time.Since(h.since) < loanCheck
		if h.state == stateLent && s.CIDR.Contains(a) && !h.busy && !young && reserved[a].Host != h.host && !used[use{a, h.host}] {
			h.busy = true
			over = append(over, h)
		}
	}
	nw.mu.Unlock()
	for _, h := range over {
		if err := k.lender.endLoan(nw, h); err != nil {
			return fmt.Errorf("end loan of %s: %w", h.addr, err)
		}
	}
	return nil
}

// reserveAgain renews the reservations of leases that the pool has lost: it was
// wiped, or restored to its past. Another's claim is reported, never taken.
func (k *keeper) reserveAgain(ctx context.Context, nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) error {
	for _, h := range k.unreserved(nw, s, reserved, began) {
		b, held, err := k.cfg.Pool.BlockAt(ctx, nw.spec(), h.addr)
		if err != nil {
			return fmt.Errorf("find block of %s: %w", h.addr, err)
		}
		var lent *discovery.Block
		if held {
			lent = &b
		}
		_, err = k.cfg.Pool.Reserve(ctx, nw.spec(), h.addr, k.cfg.Self, lent)
		if taken, ok := errors.AsType[*discovery.TakenError](err); ok {
			k.cfg.Log.Error("address is claimed twice", "network", nw.spec().Name, "addr", h.addr, k.cfg.View().LogMember(taken.Host))
			continue
		}
		if err != nil {
			return fmt.Errorf("reserve %s again: %w", h.addr, err)
		}
		k.cfg.Log.Info("reservation renewed", "network", nw.spec().Name, "addr", h.addr)
	}
	return nil
}

// unreserved lists the idle leases that should stand in reserved and do
// not.
func (k *keeper) unreserved(nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) []*holding {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	var out []*holding
	for a, h := range nw.held {
		if h.state == stateLeased && h.reserved && !h.busy && h.gen <= began && s.CIDR.Contains(a) && reserved[a].Host != k.cfg.Self {
			out = append(out, h)
		}
	}
	return out
}
