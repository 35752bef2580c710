package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// flight is a claim that others may wait for.
type flight struct {
	done chan struct{}
	err  error
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

// claim adds a block to those in hand. All who need one at a time share one
// claim, so a burst of leases does not grab blocks that it will not fill.
func (m *Manager) claim(ctx context.Context, nw *network, v6 bool) error {
	m.mu.Lock()
	f := nw.claims[v6]
	if f != nil {
		m.mu.Unlock()
		select {
		case <-f.done:
			if errors.Is(f.err, context.Canceled) && ctx.Err() == nil {
				return nil // its caller went away, we did not: look again
			}
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f = &flight{done: make(chan struct{})}
	nw.claims[v6] = f
	have := len(nw.family(v6))
	m.mu.Unlock()

	f.err = m.claimAlone(ctx, nw, v6, have)
	m.mu.Lock()
	delete(nw.claims, v6)
	m.mu.Unlock()
	close(f.done)
	return f.err
}

// claimAlone claims a block unless the blocks in hand are no longer the have
// that did not suffice.
func (m *Manager) claimAlone(ctx context.Context, nw *network, v6 bool, have int) error {
	if err := nw.lockBlocks(ctx); err != nil {
		return err
	}
	defer nw.unlockBlocks()
	m.mu.Lock()
	changed := len(nw.family(v6)) != have
	m.mu.Unlock()
	if changed {
		return nil
	}
	if gained, err := m.catchUp(ctx, nw, v6); gained || err != nil {
		return err
	}
	n, v := nw.spec(), m.cfg.View()
	m.mu.Lock()
	taken := m.takenBlocks(nw, v)
	nw.claimInDoubt = true // until we know what the pool did
	m.mu.Unlock()

	// A disk that is full shall say so before the pool is asked. And a block
	// is never on disk without its network.
	if err := m.disk.Commit(putNetwork(n)); err != nil {
		return err
	}
	b, err := m.cfg.Pool.ClaimBlock(ctx, n, m.cfg.Self, m.cfg.Nonce, v6, taken)
	if errors.Is(err, ErrFull) {
		m.endDoubt(nw)
		return err
	}
	if err != nil {
		return fmt.Errorf("claim block: %w", away(ctx, err))
	}
	if err := m.adopt(ctx, nw, b); err != nil {
		return err
	}
	m.endDoubt(nw)
	return nil
}

func (m *Manager) endDoubt(nw *network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nw.claimInDoubt = false
}

// takenBlocks returns what no claim may get: blocks without a usable address,
// our own, those on their way back, and those that any owner's header still
// advertises, suspended ones included. The view is the fence against a pool
// that was restored to its past. m.mu is held.
func (m *Manager) takenBlocks(nw *network, v discovery.View) func(netip.Prefix) bool {
	taken := map[netip.Prefix]bool{}
	for host, blocks := range advertised(v, nw.id()) {
		for _, p := range blocks {
			taken[p] = taken[p] || host != m.cfg.Self
		}
	}
	for _, b := range nw.blocks {
		taken[b.Prefix] = true
	}
	for _, g := range m.returns {
		if g.isBlock() && g.what.Network == nw.id() {
			taken[g.what.Block] = true
		}
	}
	n := nw.spec()
	return func(p netip.Prefix) bool {
		s, ok := n.Covering(p.Addr())
		return taken[p] || !ok || !s.Claimable(p)
	}
}

// catchUp adopts what the pool holds for us without our knowing: a claim whose
// answer was lost. Only then does another claim make sense.
func (m *Manager) catchUp(ctx context.Context, nw *network, v6 bool) (gained bool, err error) {
	m.mu.Lock()
	inDoubt := nw.claimInDoubt
	m.mu.Unlock()
	if !inDoubt {
		return false, nil
	}
	found, err := m.readBlocks(ctx, nw)
	if err != nil {
		return false, err
	}
	for _, b := range found {
		if err := m.adopt(ctx, nw, b); err != nil {
			return false, err
		}
		gained = gained || b.Prefix.Addr().Is6() == v6
	}
	m.endDoubt(nw)
	return gained, nil
}

// readBlocks asks the pool which blocks of the network are ours, refreshes
// what we know of them, and returns those that are not in hand. nw.blocksLock is
// held.
func (m *Manager) readBlocks(ctx context.Context, nw *network) (found []discovery.Block, err error) {
	all, err := m.cfg.Pool.Blocks(ctx, nw.id())
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", away(ctx, err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ours := map[netip.Prefix]discovery.Block{}
	for _, b := range all {
		if b.Host == m.cfg.Self {
			ours[b.Prefix] = b
		}
	}
	for _, g := range m.returns {
		if g.what.Network == nw.id() {
			delete(ours, g.what.Block)
		}
	}
	for _, b := range nw.blocks {
		now, held := ours[b.Prefix]
		delete(ours, b.Prefix)
		switch {
		case held:
			b.Block, b.lost = now, false
		case !b.lost:
			b.lost = true
			m.cfg.Log.Warn("block is not ours in the pool", "network", nw.spec().Name, "block", b.Prefix)
		}
	}
	for _, b := range ours {
		found = append(found, b)
	}
	return found, nil
}

// adopt takes a block into use that the pool holds for us. Addresses in it may
// have been reserved before it was claimed, so those are read first. Others may
// use more than a wiped pool says: what they announce counts as lent until the
// next reading.
// nw.blocksLock is held.
func (m *Manager) adopt(ctx context.Context, nw *network, b discovery.Block) error {
	reserved, err := m.cfg.Pool.Reserved(ctx, nw.id(), b.Prefix)
	if err != nil {
		return fmt.Errorf("read reservations in %s: %w", b.Prefix, away(ctx, err))
	}
	s, ok := nw.spec().Covering(b.Prefix.Addr())
	if !ok || s.BlockOf(b.Prefix.Addr()) != b.Prefix {
		return fmt.Errorf("block %s does not fit network %s: %w", b.Prefix, nw.spec().Name, ErrOutside)
	}
	users := map[netip.Addr]discovery.HostID{}
	for a, host := range announced(m.cfg.View(), nw.id(), b.Prefix) {
		if reserved[a].Host.IsZero() && host != m.cfg.Self && s.Assignable(a) {
			users[a] = host
		}
	}
	seen := len(users) > 0
	for a, r := range reserved {
		if r.Host != m.cfg.Self {
			users[a] = r.Host
		}
	}
	changes := []Change{putBlock(b)}
	var lent []*holding
	for a, host := range users {
		h := &holding{addr: a, state: stateLent, host: host, seq: reserved[a].Seq}
		lent = append(lent, h)
		changes = append(changes, putAddress(b.Network, a, h.record()))
	}
	if err := m.disk.Commit(changes...); err != nil {
		return err
	}
	m.insert(nw, newBlock(b, s, time.Now()), lent)
	if seen {
		m.rereadSoon(nw, loanCheck) // the view may be late
	}
	for a, r := range reserved {
		if r.Host == m.cfg.Self {
			if err := m.returnStray(nw, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// insert puts a block into hand. What is held of it already, because it was
// reserved before, is in use.
func (m *Manager) insert(nw *network, b *block, lent []*holding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(nw.blocks, func(o *block) bool { return o.Prefix == b.Prefix }) {
		return
	}
	for _, h := range lent {
		if nw.held[h.addr] == nil {
			nw.held[h.addr] = h
		} else {
			nw.lent[h.addr] = h // we are just asking for it, in vain
		}
	}
	for a := range nw.held {
		if b.Prefix.Contains(a) {
			b.takeThis(a)
		}
	}
	nw.blocks = append(nw.blocks, b)
	m.changes.Set()
	m.cfg.Log.Info("block claimed", "network", nw.spec().Name, "block", b.Prefix)
}

// wantsAhead reports whether the next block should be claimed before it is
// needed. Manager.mu is held.
func (nw *network) wantsAhead(v6 bool, now time.Time) bool {
	used, size, single := 0, 0, false
	for _, b := range nw.family(v6) {
		used, size, single = used+b.used, size+b.size, single || b.single()
	}
	return size > 0 && !single && used*4 >= size*3 && !now.Before(nw.aheadAt[v6]) && nw.claims[v6] == nil
}
