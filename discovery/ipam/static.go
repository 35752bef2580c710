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

// retryError is an attempt that may succeed when what stood in its way has
// been cleared by somebody: us, the address's last holder, or the pool.
type retryError struct{ why error }

func (e *retryError) Error() string { return e.why.Error() }
func (e *retryError) Unwrap() error { return e.why }

// fillThis finds the slot one very address. Each address has one lender: us
// when it lies in a block of ours, the pool when no block covers it, else the
// host whose block it is.
func (m *Manager) fillThis(ctx context.Context, nw *network, h *holding, want netip.Addr) error {
	if done, err := m.takeThis(nw, h, want); done {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	backoff := pace.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for {
		done, err := m.takeThis(nw, h, want)
		if !done && err == nil {
			err = m.reserve(ctx, nw, h, want)
		}
		if !final(err) && pace.Sleep(ctx, backoff.Failed()) {
			continue
		}
		return lastly(ctx, err)
	}
}

// lastly is the error of an attempt after which there is no time for another.
func lastly(ctx context.Context, err error) error {
	retry, ok := errors.AsType[*retryError](err)
	if !ok {
		return away(ctx, err)
	}
	if _, taken := errors.AsType[*TakenError](retry.why); taken {
		return retry.why
	}
	return fmt.Errorf("%w: gave up after %s: %w", ErrStoreAway, storeWait, retry.why)
}

// final reports whether trying again is of no use, success included.
func final(err error) bool {
	_, retry := errors.AsType[*retryError](err)
	return !retry && !errors.Is(err, ErrStoreAway)
}

// takeThis settles what can be settled in hand; done is false with a nil error
// when the pool must be asked.
func (m *Manager) takeThis(nw *network, h *holding, want netip.Addr) (done bool, err error) {
	m.mu.Lock()
	other := nw.held[want]
	if other != nil && other.back != nil {
		m.mu.Unlock()
		return m.retake(nw, h, other)
	}
	if other != nil {
		m.mu.Unlock()
		return true, m.takenBy(nw, want, other)
	}
	b := nw.blockOf(want)
	if b == nil || b.lost {
		m.mu.Unlock()
		return false, nil
	}
	b.takeThis(want)
	nw.hold(h, want, b.Seq)
	m.mu.Unlock()
	return true, m.keep(nw, h)
}

// retake leases a reservation again that waits to be given back, if the pool
// was not told yet: a container that restarts keeps its address without a
// round trip.
func (m *Manager) retake(nw *network, h, other *holding) (done bool, err error) {
	g, a := other.back, other.addr
	m.mu.Lock()
	if g.busy || g.tried || nw.held[a] != other {
		m.mu.Unlock()
		m.wake.Set()
		return false, &retryError{m.takenError(m.cfg.View(), nw.id(), a, m.cfg.Self)}
	}
	g.busy = true
	m.gen++
	h.gen = m.gen
	h.reserved, h.host, h.loan = true, g.what.Lender, g.what.Loan
	nw.hold(h, a, g.what.Seq)
	m.mu.Unlock()
	err = m.disk.Commit(deleteReturn(g.number), putAddress(nw.id(), a, h.record()))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		g.busy = false
		nw.held[a] = other
		return true, err
	}
	delete(m.returns, g.number)
	return true, nil
}

// reserve gets an address that lies in no block of ours.
func (m *Manager) reserve(ctx context.Context, nw *network, h *holding, want netip.Addr) error {
	b, held, err := m.cfg.Pool.BlockAt(ctx, nw.spec(), want)
	switch {
	case err != nil:
		return fmt.Errorf("find block of %s: %w", want, away(ctx, err))
	case held && b.Host == m.cfg.Self:
		// A claim whose answer was lost, or a block on its way back.
		m.rereadSoon(nw, 0)
		return &retryError{fmt.Errorf("block %s is changing hands", b.Prefix)}
	case held:
		return m.borrow(ctx, nw, h, &b, b.Host, want, want.Is6())
	}
	if err := m.await(nw, h, want); err != nil {
		return err
	}
	g, err := m.intend(nw, returnRecord{Addr: want, V6: want.Is6()})
	if err != nil {
		m.unhold(nw, h)
		return err
	}
	return m.conclude(nw, h, g, m.reserveAt(ctx, nw, h, nil))
}

// await notes that h is about to get a.
func (m *Manager) await(nw *network, h *holding, a netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := nw.blockOf(a); nw.held[a] != nil || b != nil && !b.lost {
		return &retryError{fmt.Errorf("address %s changed hands", a)}
	}
	nw.hold(h, a, 0)
	return nil
}

// unhold undoes await.
func (m *Manager) unhold(nw *network, h *holding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.addr.IsValid() && nw.held[h.addr] == h {
		nw.release(h, false)
	}
	h.addr = netip.Addr{}
}

// reserveAt reserves h's address, out of the block lent if it is not nil.
func (m *Manager) reserveAt(ctx context.Context, nw *network, h *holding, lent *discovery.Block) error {
	if r, ok := endpointAt(m.cfg.View(), nw.id(), h.addr); ok && r.Host != m.cfg.Self {
		return m.announcedBy(ctx, nw, h.addr, r.Host)
	}
	seq, err := m.cfg.Pool.Reserve(ctx, nw.spec(), h.addr, m.cfg.Self, lent)
	taken, ok := errors.AsType[*discovery.TakenError](err)
	switch {
	case ok:
		err = m.reservedBy(ctx, nw, h.addr, taken.Host)
	case errors.Is(err, discovery.ErrCovered):
		err = &retryError{fmt.Errorf("reserve %s: %w", h.addr, err)}
	case err != nil:
		err = fmt.Errorf("reserve %s: %w", h.addr, away(ctx, err))
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h.reserved, h.seq = true, seq
	return nil
}

// announcedBy is the error about an address that host announces. If the pool
// does not reserve it either the endpoint has just gone, and the view will
// follow, or the pool was wiped and the address is in use all the same.
func (m *Manager) announcedBy(ctx context.Context, nw *network, a netip.Addr, host discovery.HostID) error {
	reserved, err := m.cfg.Pool.Reserved(ctx, nw.id(), netip.PrefixFrom(a, a.BitLen()))
	if err != nil {
		return fmt.Errorf("read reservation of %s: %w", a, away(ctx, err))
	}
	if r, ok := reserved[a]; ok && r.Host != m.cfg.Self {
		return m.reservedBy(ctx, nw, a, r.Host)
	}
	return &retryError{m.takenError(m.cfg.View(), nw.id(), a, host)}
}

// reservedBy is the error about an address that the pool reserves for host. A
// host that is alive and announces no endpoint there is asked whether it still
// needs it; if not it ends the reservation, and we try again. A suspended host
// may well use it.
func (m *Manager) reservedBy(ctx context.Context, nw *network, a netip.Addr, host discovery.HostID) error {
	v := m.cfg.View()
	taken := m.takenError(v, nw.id(), a, host)
	if !alive(v, host) || !taken.Endpoint.IsZero() {
		return taken
	}
	got, err := m.ask(ctx, host, request{kind: kindCheck, network: nw.id(), v6: a.Is6(), addr: a})
	switch {
	case err != nil:
		return taken
	case got.verdict == verdictNotMine:
		return &retryError{taken}
	}
	taken.Endpoint = got.endpoint
	return taken
}

// conclude makes h's reservation a lease, or leaves what came of the attempt
// to be given back.
func (m *Manager) conclude(nw *network, h *holding, g *pendingReturn, err error) error {
	if err == nil {
		err = m.disk.Commit(putAddress(nw.id(), h.addr, h.record()), deleteReturn(g.number))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.returns, g.number)
		m.gen++
		h.gen = m.gen
		return nil
	}
	if a := g.what.Addr; a.IsValid() {
		nw.held[a] = &holding{addr: a, reserved: true, back: g}
	}
	h.addr, h.reserved, h.host, h.loan = netip.Addr{}, false, discovery.HostID{}, 0
	g.busy = false
	m.wake.Set()
	return err
}

// takenBy is the error about an address that we hold or have lent.
func (m *Manager) takenBy(nw *network, a netip.Addr, by *holding) *TakenError {
	host, endpoint := m.cfg.Self, by.owner
	if by.state == stateLent {
		host, endpoint = by.host, discovery.EndpointID{}
	}
	taken := m.takenError(m.cfg.View(), nw.id(), a, host)
	if !endpoint.IsZero() {
		taken.Endpoint = endpoint
	}
	return taken
}

// takenError fills in what the view knows of the holder.
func (m *Manager) takenError(v discovery.View, id discovery.NetworkID, a netip.Addr, host discovery.HostID) *TakenError {
	out := &TakenError{Addr: a, Host: host, HostName: hostName(v, host)}
	if r, ok := endpointAt(v, id, a); ok && (r.Host == host || host.IsZero()) {
		out.Host, out.HostName, out.Endpoint, out.Name = r.Host, hostName(v, r.Host), r.ID, r.Name
	}
	return out
}
