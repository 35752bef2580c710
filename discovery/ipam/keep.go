package ipam

import (
	"context"
	"errors"
	"fmt"
	"time"
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
		m.backoff.Worked()
		return nil
	}
	m.quiet = time.Now().Add(m.backoff.Failed())
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
	var changes []Change
	for _, b := range nw.blocks {
		for _, a := range b.settled(now) {
			changes = append(changes, forgetRest(nw.id(), a))
		}
	}
	m.mu.Unlock()
	if len(changes) > 0 {
		if err := m.disk.Commit(changes...); err != nil {
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
	g := m.newReturn(returnRecord{Network: nw.id(), Block: b.Prefix, Index: b.Index, Seq: b.Seq})
	g.busy = true
	changes := []Change{deleteBlock(nw.id(), b.Prefix), putReturn(g.number, g.what)}
	for _, r := range b.freed {
		changes = append(changes, forgetRest(nw.id(), b.addr(r.at)))
	}
	m.mu.Unlock()
	err := m.disk.Commit(changes...)
	m.mu.Lock()
	defer m.mu.Unlock()
	g.busy = false
	if err != nil {
		delete(m.returns, g.number)
		nw.blocks = append(nw.blocks, b)
		return fmt.Errorf("give back block %s: %w", b.Prefix, err)
	}
	m.changes.Set()
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
			nw.aheadAt[v6] = time.Now().Add(fullRetry) // others may give a block back
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
