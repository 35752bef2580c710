package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// reserve gets an address that lies in no block of ours.
func (l *lender) reserve(ctx context.Context, nw *network, h *holding, want netip.Addr) error {
	b, held, err := l.cfg.Pool.BlockAt(ctx, nw.spec(), want)
	switch {
	case err != nil:
		return fmt.Errorf("find block of %s: %w", want, away(ctx, err))
	case held && b.Host == l.cfg.Self:
		// A claim whose answer was lost, or a block on its way back.
		l.rereadSoon(nw, 0)
		return &retryError{fmt.Errorf("block %s is changing hands", b.Prefix)}
	case held:
		return l.borrow(ctx, nw, h, &b, b.Host, want)
	}
	if err := await(nw, h, want); err != nil {
		return err
	}
	g, err := l.intend(nw, returnRecord{Addr: want, V6: want.Is6()})
	if err != nil {
		unhold(nw, h)
		return err
	}
	return l.conclude(nw, h, g, l.reserveAt(ctx, nw, h, nil))
}

// await notes that h is about to get a.
func await(nw *network, h *holding, a netip.Addr) error {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if b := nw.blockOf(a); nw.held[a] != nil || b != nil && !b.lost {
		return &retryError{fmt.Errorf("address %s changed hands", a)}
	}
	nw.hold(h, a, 0)
	return nil
}

// unhold undoes await.
func unhold(nw *network, h *holding) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if h.addr.IsValid() && nw.held[h.addr] == h {
		nw.release(h, false)
	}
	h.addr = netip.Addr{}
}

// reserveAt reserves h's address, out of the block lent if it is not nil.
func (l *lender) reserveAt(ctx context.Context, nw *network, h *holding, lent *discovery.Block) error {
	if r, ok := endpointAt(l.cfg.View(), nw.id, h.addr); ok && r.Host != l.cfg.Self {
		return l.announcedBy(ctx, nw, h.addr, r.Host)
	}
	seq, err := l.cfg.Pool.Reserve(ctx, nw.spec(), h.addr, l.cfg.Self, lent)
	taken, ok := errors.AsType[*discovery.TakenError](err)
	switch {
	case ok:
		err = l.reservedBy(ctx, nw, h.addr, taken.Host)
	case errors.Is(err, discovery.ErrCovered):
		err = &retryError{fmt.Errorf("reserve %s: %w", h.addr, err)}
	case err != nil:
		err = fmt.Errorf("reserve %s: %w", h.addr, away(ctx, err))
	}
	if err != nil {
		return err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	h.reserved, h.seq = true, seq
	return nil
}

// announcedBy is the error about an address that host announces. If the pool
// does not reserve it either the endpoint has just gone, and the view will
// follow, or the pool was wiped and the address is in use all the same.
func (l *lender) announcedBy(ctx context.Context, nw *network, a netip.Addr, host discovery.HostID) error {
	reserved, err := l.cfg.Pool.Reserved(ctx, nw.id, netip.PrefixFrom(a, a.BitLen()))
	if err != nil {
		return fmt.Errorf("read reservation of %s: %w", a, away(ctx, err))
	}
	if r, ok := reserved[a]; ok && r.Host != l.cfg.Self {
		return l.reservedBy(ctx, nw, a, r.Host)
	}
	return &retryError{l.takenError(l.cfg.View(), nw.id, a, host)}
}

// reservedBy is the error about an address that the pool reserves for host. A
// host that is alive and announces no endpoint there is asked whether it still
// needs it; if not it ends the reservation, and the caller tries again. A
// suspended host may well use it.
func (l *lender) reservedBy(ctx context.Context, nw *network, a netip.Addr, host discovery.HostID) error {
	v := l.cfg.View()
	taken := l.takenError(v, nw.id, a, host)
	if !alive(v, host) || !taken.Endpoint.IsZero() {
		return taken
	}
	got, err := l.ask(ctx, host, request{kind: kindCheck, network: nw.id, v6: a.Is6(), addr: a})
	switch {
	case err != nil:
		return taken
	case got.outcome == outcomeNotMine:
		return &retryError{taken}
	}
	taken.Endpoint = got.endpoint
	return taken
}

// conclude makes h's reservation a lease, or leaves what came of the attempt
// to be given back.
func (l *lender) conclude(nw *network, h *holding, g *pendingReturn, err error) error {
	if err == nil {
		err = l.cfg.Disk.Commit(putAddress(nw.id, h.addr, h.record()), deleteReturn(g.number))
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err == nil {
		delete(nw.returns, g.number)
		nw.gen++
		h.gen = nw.gen
		return nil
	}
	if a := g.what.Addr; a.IsValid() {
		nw.held[a] = &holding{addr: a, reserved: true, back: g}
	}
	h.addr, h.reserved, h.host, h.loan = netip.Addr{}, false, discovery.HostID{}, 0
	g.busy = false
	l.wake.Set()
	return err
}
