package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// Lease gives owner an address of n: want, or any IPv4 one when want is zero. It
// is persisted before Lease returns. The same owner asking again gets the same
// lease.
//
// As long as the blocks in hand suffice nobody is asked. Otherwise Lease waits
// at most 5 s for the pool and other members, and when the network is full but
// an address of ours rests, until that has rested.
//
// Errors: *TakenError, *FullError, *AwayError, and wrapped ErrStoreAway,
// ErrOutside, ErrReserved, ErrOther and ErrDeleting; else what the disk said,
// and then no address is in use. Whoever asks knows in which network: none repeats
// it.
func (m *Manager) Lease(ctx context.Context, n discovery.Network, owner discovery.EndpointID, want netip.Addr) (Lease, error) {
	if err := wanted(n, want); err != nil {
		return Lease{}, err
	}
	ctx, nw, leave := m.enter(ctx, n)
	defer leave()
	key := ownerKey{owner, want.Is6()}
	h, fresh, err := m.slot(ctx, nw, key)
	if err == nil && fresh {
		err = m.fill(ctx, nw, h, want, key.v6)
		m.settle(nw, key, h, err)
	}
	if err == nil && want.IsValid() && h.addr != want {
		err = fmt.Errorf("%w: %s", ErrOther, h.addr)
	}
	if err != nil {
		return Lease{}, err
	}
	return nw.lease(h), nil
}

// wanted checks what can be said without looking at who holds what.
func wanted(n discovery.Network, want netip.Addr) error {
	if n.State == discovery.NetworkDeleting {
		return ErrDeleting
	}
	if !want.IsValid() {
		if _, ok := subnetOf(n, false); !ok {
			return fmt.Errorf("any address of IPv4: %w", ErrOutside)
		}
		return nil
	}
	s, ok := n.Covering(want)
	if !ok {
		return fmt.Errorf("address %s: %w", want, ErrOutside)
	}
	if !s.Assignable(want) {
		return fmt.Errorf("address %s: %w", want, ErrReserved)
	}
	return nil
}

// slot returns the owner's lease, or a fresh slot that the caller must settle.
// Two requests of one owner are served one after the other.
func (m *Manager) slot(ctx context.Context, nw *network, key ownerKey) (h *holding, fresh bool, err error) {
	for {
		m.mu.Lock()
		h := nw.owners[key]
		if h == nil {
			h = &holding{state: stateLeased, owner: key.id, busy: make(chan struct{})}
			nw.owners[key] = h
			m.mu.Unlock()
			return h, true, nil
		}
		busy := h.busy
		m.mu.Unlock()
		if busy == nil {
			return h, false, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, false, away(ctx, ctx.Err())
		}
	}
}

// settle ends what slot began.
func (m *Manager) settle(nw *network, key ownerKey, h *holding, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(nw.owners, key)
	}
	close(h.busy)
	h.busy = nil
}

// fill finds the slot an address and persists it.
func (m *Manager) fill(ctx context.Context, nw *network, h *holding, want netip.Addr, v6 bool) error {
	if want.IsValid() {
		return m.fillThis(ctx, nw, h, want)
	}
	if m.take(nw, h, v6) {
		return m.keep(nw, h)
	}
	for {
		err := m.fillAway(ctx, nw, h, v6)
		if !errors.Is(err, ErrFull) || !m.rest(ctx, nw, v6) {
			return err
		}
	}
}

// fillAway gets an address that is not in hand: out of a new block, or of
// another host's.
func (m *Manager) fillAway(ctx context.Context, nw *network, h *holding, v6 bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	for {
		if m.take(nw, h, v6) {
			return m.keep(nw, h)
		}
		err := retry(ctx, func() error { return m.claim(ctx, nw, v6) })
		if errors.Is(err, ErrFull) {
			if m.take(nw, h, v6) { // the last block has just become ours
				return m.keep(nw, h)
			}
			return m.borrowAny(ctx, nw, h, v6)
		}
		if err != nil {
			return err
		}
	}
}

// take gives h an address out of the blocks in hand. It fills the older blocks
// first, so that the newer ones can drain.
func (m *Manager) take(nw *network, h *holding, v6 bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, b := range nw.family(v6) {
		if a, ok := b.take(now); ok {
			nw.hold(h, a, b.Seq)
			if nw.wantsAhead(v6, now) {
				m.wake.Set()
			}
			return true
		}
	}
	return false
}

// hold notes that h has a. Manager.mu is held.
func (nw *network) hold(h *holding, a netip.Addr, seq uint64) {
	h.addr, h.seq = a, seq
	nw.held[a] = h
}

// keep persists an address taken from a block of ours.
func (m *Manager) keep(nw *network, h *holding) error {
	err := m.disk.Commit(putAddress(nw.id(), h.addr, h.record()))
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(nw.held, h.addr)
		if b := nw.blockOf(h.addr); b != nil {
			b.undo(h.addr, time.Now())
		}
	}
	return err
}

// rest waits until the next address of ours has rested; false when none rests
// or ctx ended.
func (m *Manager) rest(ctx context.Context, nw *network, v6 bool) bool {
	m.mu.Lock()
	var next time.Time
	for _, b := range nw.family(v6) {
		if at, ok := b.ready(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	m.mu.Unlock()
	return !next.IsZero() && pace.Sleep(ctx, time.Until(next))
}

// Free ends the owner's leases in the network, of both families. It never
// waits for the pool: what must be given back is persisted and queued. It
// returns nil when the owner has none, and leaves the lease as it was when the
// disk refuses.
func (m *Manager) Free(ctx context.Context, n discovery.NetworkID, owner discovery.EndpointID) error {
	ctx, nw, leave, ok := m.find(ctx, n)
	if !ok {
		return nil
	}
	defer leave()
	for _, v6 := range []bool{false, true} {
		if err := m.free(ctx, nw, ownerKey{owner, v6}); err != nil {
			return fmt.Errorf("free addresses of endpoint %s in %s: %w", owner, nw.spec().Name, err)
		}
	}
	return nil
}

func (m *Manager) free(ctx context.Context, nw *network, key ownerKey) error {
	h, err := m.leased(ctx, nw, key)
	if h == nil || err != nil {
		return err
	}
	if h.reserved {
		err = m.freeReserved(nw, h)
	} else {
		err = m.freeOwn(nw, h)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(nw.owners, key)
	}
	close(h.busy)
	h.busy = nil
	m.wake.Set()
	return err
}

// leased returns the owner's lease made busy, nil if it has none.
func (m *Manager) leased(ctx context.Context, nw *network, key ownerKey) (*holding, error) {
	for {
		m.mu.Lock()
		h := nw.owners[key]
		if h == nil || h.busy == nil {
			if h != nil {
				h.busy = make(chan struct{})
			}
			m.mu.Unlock()
			return h, nil
		}
		busy := h.busy
		m.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *Manager) freeOwn(nw *network, h *holding) error {
	if err := m.disk.Commit(putAddress(nw.id(), h.addr, addressRecord{State: stateResting})); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	nw.release(h, true)
	return nil
}

// freeReserved queues the end of the reservation. Until the pool and the
// lender know, the address counts as taken.
func (m *Manager) freeReserved(nw *network, h *holding) error {
	m.mu.Lock()
	g := m.newReturn(returnRecord{
		Network: nw.id(), Addr: h.addr, V6: h.addr.Is6(), Seq: h.seq, Lender: h.host, Loan: h.loan,
	})
	g.busy = true
	m.mu.Unlock()
	err := m.disk.Commit(deleteAddress(nw.id(), h.addr), putReturn(g.number, g.what))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.returns, g.number)
		return err
	}
	g.busy = false
	nw.held[h.addr] = &holding{addr: h.addr, reserved: true, back: g}
	return nil
}

// Drop forgets a network that was deleted: its leases end, and its blocks and
// reservations are queued to be given back. Requests for it that are under way
// fail with ErrDeleting.
func (m *Manager) Drop(n discovery.NetworkID) error {
	m.mu.Lock()
	nw := m.nets[n]
	if nw == nil {
		m.mu.Unlock()
		return nil
	}
	nw.drop()
	m.mu.Unlock()
	nw.life.Lock()
	defer nw.life.Unlock()

	changes, backs := m.dropped(nw)
	err := m.disk.Commit(changes...)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range backs {
		if g.busy = false; err != nil {
			delete(m.returns, g.number)
		}
	}
	if err != nil {
		nw.gone, nw.drop = context.WithCancel(context.Background())
		return fmt.Errorf("drop network %s: %w", nw.spec().Name, err)
	}
	if m.nets[n] == nw {
		delete(m.nets, n)
	}
	m.changes.Set()
	m.wake.Set()
	return nil
}

// dropped lists what Drop writes and gives back.
func (m *Manager) dropped(nw *network) (changes []Change, backs []*pendingReturn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes = append(changes, deleteNetwork(nw.id()))
	add := func(w returnRecord) {
		g := m.newReturn(w)
		g.busy = true
		backs = append(backs, g)
		changes = append(changes, putReturn(g.number, g.what))
	}
	for _, h := range nw.held {
		if h.state == stateLeased && h.reserved {
			add(returnRecord{Network: nw.id(), Addr: h.addr, V6: h.addr.Is6(), Seq: h.seq, Lender: h.host, Loan: h.loan})
		}
	}
	for _, b := range nw.blocks {
		add(returnRecord{Network: nw.id(), Block: b.Prefix, Index: b.Index, Seq: b.Seq})
	}
	return changes, backs
}
