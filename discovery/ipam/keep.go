package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Run does what no request waits for: it gives back what is queued, claims the
// next block of a network before the last one is used up, gives back blocks
// that stay unused, and compares what we hold with what the pool says, at its
// start and hourly. It returns nil when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	for {
		if err := m.pass(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("addresses not settled with the pool", "err", err)
		}
		t := time.NewTimer(time.Until(m.nextPass(time.Now())))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-m.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// pass does all that is due. After a failure, of the pool or of the disk, it
// leaves both alone for a while.
func (m *Manager) pass(ctx context.Context) error {
	m.mu.Lock()
	quiet := time.Now().Before(m.quiet)
	m.mu.Unlock()
	if quiet {
		return nil
	}
	err := m.settleAll(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.backoff = 0
		return nil
	}
	m.backoff = min(max(2*m.backoff, time.Second), maxBackoff)
	m.quiet = time.Now().Add(m.backoff)
	return err
}

// settleAll stops at the first failure: the rest would only wait for the same
// pool.
func (m *Manager) settleAll(ctx context.Context) error {
	for _, do := range []func(context.Context, *network) error{m.tidy, m.reread} {
		for _, nw := range m.networks() {
			if err := m.visit(ctx, nw, do); err != nil {
				return err
			}
		}
	}
	if err := m.giveBack(ctx); err != nil {
		return err
	}
	for _, nw := range m.networks() {
		if err := m.visit(ctx, nw, m.claimAhead); err != nil {
			return err
		}
	}
	return nil
}

// visit does one thing to a network, if it still is one.
func (m *Manager) visit(ctx context.Context, nw *network, do func(context.Context, *network) error) error {
	ctx, leave, ok := m.hold(ctx, nw)
	if !ok {
		return nil
	}
	defer leave()
	err := do(ctx, nw)
	if errors.Is(err, ErrDeleting) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", nw.spec().Name, err)
	}
	return nil
}

func (m *Manager) networks() []*network {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*network, 0, len(m.nets))
	for _, nw := range m.nets {
		out = append(out, nw)
	}
	return out
}

// tidy needs the disk alone: rested addresses lose their record, drained
// blocks go to the queue.
func (m *Manager) tidy(_ context.Context, nw *network) error {
	now := time.Now()
	m.mu.Lock()
	var changes []change
	for _, b := range nw.blocks {
		for _, a := range b.settled(now) {
			changes = append(changes, forgetRest(nw.id(), a))
		}
	}
	m.mu.Unlock()
	if len(changes) > 0 {
		if err := m.disk.commit(changes...); err != nil {
			return fmt.Errorf("forget rested addresses: %w", err)
		}
	}
	for {
		b := m.cutDrained(nw, now)
		if b == nil {
			return nil
		}
		if err := m.queueBlock(nw, b); err != nil {
			return err
		}
	}
}

// cutDrained takes one drained block out of hand, so that nobody gets an
// address of it any more.
func (m *Manager) cutDrained(nw *network, now time.Time) *block {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range nw.blocks {
		if at, ok := b.drained(); ok && !now.Before(at) && nw.spare(b) {
			nw.blocks = append(nw.blocks[:i:i], nw.blocks[i+1:]...)
			return b
		}
	}
	return nil
}

// spare reports whether the network does without b: what is left would not at
// once want another block ahead of need.
func (nw *network) spare(b *block) bool {
	used, size := 0, 0
	for _, o := range nw.family(b.Prefix.Addr().Is6()) {
		if o != b {
			used, size = used+o.used, size+o.size
		}
	}
	return used == 0 || b.single() || b.lost || used*4 < size*3
}

func (m *Manager) queueBlock(nw *network, b *block) error {
	m.mu.Lock()
	g := m.newGiveback(returnRecord{Network: nw.id(), Block: b.Prefix, Index: b.Index, Seq: b.Seq})
	g.busy = true
	changes := []change{deleteBlock(nw.id(), b.Prefix), putReturn(g.number, g.what)}
	for _, r := range b.freed {
		changes = append(changes, forgetRest(nw.id(), b.addr(r.at)))
	}
	m.mu.Unlock()
	err := m.disk.commit(changes...)
	m.mu.Lock()
	defer m.mu.Unlock()
	g.busy = false
	if err != nil {
		delete(m.returns, g.number)
		nw.blocks = append(nw.blocks, b)
		return fmt.Errorf("give back block %s: %w", b.Prefix, err)
	}
	signal(m.changes)
	return nil
}

// claimAhead claims the next block where the ones in hand are nearly used up.
func (m *Manager) claimAhead(ctx context.Context, nw *network) error {
	for _, v6 := range []bool{false, true} {
		m.mu.Lock()
		want := nw.wantsAhead(v6, time.Now())
		m.mu.Unlock()
		if !want {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, storeWait)
		err := m.claim(ctx, nw, v6)
		cancel()
		if errors.Is(err, ErrFull) {
			m.mu.Lock()
			nw.aheadAt[v6] = time.Now().Add(loanCheck) // others may give a block back
			m.mu.Unlock()
			continue
		}
		if err != nil {
			return away(ctx, err)
		}
	}
	return nil
}

// nextPass is when Run has something to do if nothing wakes it.
func (m *Manager) nextPass(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := now.Add(rereadTime)
	sooner := func(at time.Time, ok bool) {
		if ok && at.Before(next) {
			next = at
		}
	}
	for _, g := range m.returns {
		sooner(now, !g.busy)
	}
	for _, nw := range m.nets {
		nw.nextPass(now, sooner)
	}
	if next.Before(m.quiet) {
		return m.quiet
	}
	return next
}

func (nw *network) nextPass(now time.Time, sooner func(time.Time, bool)) {
	sooner(nw.rereadAt, true)
	for _, v6 := range []bool{false, true} {
		sooner(now, nw.wantsAhead(v6, now))
		sooner(nw.aheadAt[v6], nw.wantsAhead(v6, nw.aheadAt[v6]))
	}
	for _, b := range nw.blocks {
		at, ok := b.drained()
		sooner(at, ok && nw.spare(b))
		sooner(b.unsettled())
	}
}

// rereadSoon makes Run compare the network with the pool.
func (m *Manager) rereadSoon(nw *network, in time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nw.rereadBy(time.Now().Add(in))
	signal(m.wake)
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
	if err := nw.own(ctx); err != nil {
		return err
	}
	defer nw.disown()
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
	nw.unsure = false
	for _, b := range nw.blocks {
		if b.lost {
			nw.rereadBy(time.Now().Add(loanCheck)) // a wiped pool may be being filled again
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
	err := m.disk.commit(putAddress(nw.id(), a, h.record()))
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
// was read is too young to tell.
func (m *Manager) endLoans(nw *network, s discovery.Subnet, reserved map[netip.Addr]discovery.Reservation, began uint64) error {
	m.mu.Lock()
	var over []*holding
	for a, h := range nw.held {
		young := h.gen > began || time.Since(h.since) < loanCheck
		if h.state == stateLent && s.CIDR.Contains(a) && h.busy == nil && !young && reserved[a].Host != h.host {
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
