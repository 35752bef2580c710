package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// rereadSoon makes Run compare the network with the pool.
func (m *Manager) rereadSoon(nw *network, in time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nw.rereadBy(time.Now().Add(in))
	m.wake.Set()
}

// rereadBy puts the next reading no later than at. Manager.mu is held.
func (nw *network) rereadBy(at time.Time) {
	if at.Before(nw.rereadAt) {
		nw.rereadAt = at
	}
}

// reread compares what we hold of the network with what the pool says, when
// that is due.
func (m *Manager) reread(ctx context.Context, nw *network) error {
	now := time.Now()
	m.mu.Lock()
	due := !now.Before(nw.rereadAt)
	if due {
		nw.rereadAt = now.Add(rereadTime)
	}
	m.mu.Unlock()
	if !due {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	err := m.rereadBlocks(ctx, nw)
	if err == nil {
		err = m.rereadAddrs(ctx, nw)
	}
	if err != nil {
		m.mu.Lock()
		nw.rereadBy(now)
		m.mu.Unlock()
	}
	return away(ctx, err)
}

func (m *Manager) rereadBlocks(ctx context.Context, nw *network) error {
	if err := nw.lockBlocks(ctx); err != nil {
		return err
	}
	defer nw.unlockBlocks()
	found, err := m.readBlocks(ctx, nw)
	if err != nil {
		return err
	}
	for _, b := range found {
		if err := m.adopt(ctx, nw, b); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
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
func (m *Manager) rereadAddrs(ctx context.Context, nw *network) error {
	for _, s := range nw.spec().Subnets {
		m.mu.Lock()
		began := m.gen
		m.mu.Unlock()
		reserved, err := m.cfg.Pool.Reserved(ctx, nw.id(), s.CIDR)
		if err != nil {
			return fmt.Errorf("read reservations: %w", err)
		}
		for a, r := range reserved {
			if err := m.rereadAddr(nw, a, r, began); err != nil {
				return err
			}
		}
		if err := m.endLoans(nw, s, reserved, began); err != nil {
			return err
		}
		if err := m.reserveAgain(ctx, nw, s, reserved, began); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) rereadAddr(nw *network, a netip.Addr, r discovery.Reservation, began uint64) error {
	if r.Host == m.cfg.Self {
		return m.returnStray(nw, a)
	}
	h := m.markLent(nw, a, r, began)
	if h == nil {
		return nil
	}
	err := m.disk.Commit(putAddress(nw.id(), a, h.record()))
	m.mu.Lock()
	defer m.mu.Unlock()
	close(h.busy)
	h.busy = nil
	return err
}

// markLent marks an address of ours that the pool reserves for another host:
// it was reserved before the block was claimed, or lent and forgotten.
func (m *Manager) markLent(nw *network, a netip.Addr, r discovery.Reservation, began uint64) *holding {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := nw.blockOf(a)
	if b == nil || nw.held[a] != nil {
		return nil
	}
	if nw.returned > began {
		nw.rereadBy(time.Now().Add(time.Second)) // it may have been returned since
		return nil
	}
	b.takeThis(a)
	h := &holding{addr: a, state: stateLent, host: r.Host, seq: r.Seq, gen: m.gen, busy: make(chan struct{})}
	nw.held[a] = h
	return h
}

// endLoans ends the loans of which the pool knows nothing. A borrower has a
// minute to make the reservation; and what was lent or confirmed since the pool
// was read is too young to tell. What the borrower announces is in use though a
// wiped pool has forgotten it.
func (m *Manager) endLoans(nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) error {
	type use struct {
		addr netip.Addr
		host discovery.HostID
	}
	used := map[use]bool{}
	for a, host := range announced(m.cfg.View(), nw.id(), s.CIDR) {
		used[use{a, host}] = true
	}
	m.mu.Lock()
	var over []*holding
	for a, h := range nw.held {
		young := h.gen > began || time.Since(h.since) < loanCheck
		if h.state == stateLent && s.CIDR.Contains(a) && h.busy == nil && !young && reserved[a].Host != h.host && !used[use{a, h.host}] {
			h.busy = make(chan struct{})
			over = append(over, h)
		}
	}
	m.mu.Unlock()
	for _, h := range over {
		if err := m.endLoan(nw, h); err != nil {
			return fmt.Errorf("end loan of %s: %w", h.addr, err)
		}
	}
	return nil
}

// reserveAgain renews the reservations of leases that the pool has lost: it was
// wiped, or restored to its past. Another's claim is reported, never taken.
func (m *Manager) reserveAgain(ctx context.Context, nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) error {
	for _, h := range m.unreserved(nw, s, reserved, began) {
		b, held, err := m.cfg.Pool.BlockAt(ctx, nw.spec(), h.addr)
		if err != nil {
			return fmt.Errorf("find block of %s: %w", h.addr, err)
		}
		var lent *discovery.Block
		if held {
			lent = &b
		}
		_, err = m.cfg.Pool.Reserve(ctx, nw.spec(), h.addr, m.cfg.Self, lent)
		if taken, ok := errors.AsType[*discovery.TakenError](err); ok {
			m.cfg.Log.Error("address is claimed twice", "network", nw.spec().Name, "addr", h.addr, "member", taken.Host)
			continue
		}
		if err != nil {
			return fmt.Errorf("reserve %s again: %w", h.addr, err)
		}
		m.cfg.Log.Info("reservation renewed", "network", nw.spec().Name, "addr", h.addr)
	}
	return nil
}

// unreserved lists the settled leases that should stand in reserved and do
// not.
func (m *Manager) unreserved(nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) []*holding {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*holding
	for a, h := range nw.held {
		if h.state == stateLeased && h.reserved && h.busy == nil && h.gen <= began && s.CIDR.Contains(a) && reserved[a].Host != m.cfg.Self {
			out = append(out, h)
		}
	}
	return out
}
