package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// borrow gets an address out of another host's block: want, or any when want
// is zero. b is that block when it is known.
//
// The lender is asked twice. What it promised before the reservation was made
// may have been forgotten since, were we stopped for long in between; what it
// confirms afterwards stays, because it looks at the reservation before it
// takes an address back.
func (m *Manager) borrow(ctx context.Context, nw *network, h *holding, b *discovery.Block, lender discovery.HostID, want netip.Addr, v6 bool) error {
	if want.IsValid() {
		// First of all, so that nobody else on this host is at it: his
		// reservation would be ours to the pool, and given back if we fail.
		if err := m.await(nw, h, want); err != nil {
			return err
		}
	}
	g, err := m.intend(nw, returnRecord{Addr: want, V6: v6, Lender: lender})
	if err != nil {
		m.unhold(nw, h)
		return err
	}
	return m.conclude(nw, h, g, m.borrowWith(ctx, nw, h, g, b))
}

func (m *Manager) borrowWith(ctx context.Context, nw *network, h *holding, g *pendingReturn, b *discovery.Block) error {
	a, err := m.lend(ctx, nw, g, g.what.Addr)
	if err != nil {
		return err
	}
	if b == nil {
		if err := m.await(nw, h, a); err != nil {
			return err
		}
		if b, err = m.locate(ctx, nw, g, a); err != nil {
			return err
		}
	}
	if err := m.reserveAt(ctx, nw, h, b); err != nil {
		return err
	}
	if _, err := m.lend(ctx, nw, g, a); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h.host, h.loan = g.what.Lender, g.what.Loan
	return nil
}

// locate completes g with the address that was lent, and returns its block.
func (m *Manager) locate(ctx context.Context, nw *network, g *pendingReturn, a netip.Addr) (*discovery.Block, error) {
	m.mu.Lock()
	g.what.Addr = a
	m.mu.Unlock()
	if err := m.disk.Commit(putReturn(g.number, g.what)); err != nil {
		return nil, err
	}
	b, held, err := m.cfg.Pool.BlockAt(ctx, nw.spec(), a)
	if err != nil {
		return nil, fmt.Errorf("find block of %s: %w", a, away(ctx, err))
	}
	if !held || b.Host != g.what.Lender {
		return nil, &retryError{fmt.Errorf("block of %s changed hands", a)}
	}
	return &b, nil
}

// lend asks g's lender for a, or any address when a is zero.
func (m *Manager) lend(ctx context.Context, nw *network, g *pendingReturn, a netip.Addr) (netip.Addr, error) {
	w := g.what
	got, err := m.ask(ctx, w.Lender, request{kind: kindLend, network: w.Network, loan: w.Loan, v6: w.V6, addr: a})
	if err != nil {
		return netip.Addr{}, m.awayError(nw, w.Lender, a, err)
	}
	switch got.verdict {
	case verdictYes:
		if s, ok := nw.spec().Covering(got.addr); !ok || !s.Assignable(got.addr) || a.IsValid() && a != got.addr {
			return netip.Addr{}, fmt.Errorf("host %s lent %s: %w", w.Lender, got.addr, discovery.ErrMalformed)
		}
		return got.addr, nil
	case verdictTaken:
		taken := m.takenError(m.cfg.View(), w.Network, a, got.host)
		taken.Endpoint = got.endpoint
		return netip.Addr{}, taken
	case verdictNotMine:
		return netip.Addr{}, &retryError{fmt.Errorf("host %s has no block of %s", w.Lender, a)}
	case verdictNone:
		return netip.Addr{}, fmt.Errorf("host %s: %w", w.Lender, ErrFull)
	}
	return netip.Addr{}, m.awayError(nw, w.Lender, a, errors.New("it refused"))
}

// borrowAny gets any address of the family from a member that has unused ones.
func (m *Manager) borrowAny(ctx context.Context, nw *network, h *holding, v6 bool) error {
	n, v := nw.spec(), m.cfg.View()
	s, _ := nw.subnet(v6)
	all := holders(v, n, s)
	for _, lender := range lenders(v, m.cfg.Self, all) {
		err := m.borrow(ctx, nw, h, nil, lender, netip.Addr{}, v6)
		if !declined(err) {
			return err
		}
	}
	m.countOwn(nw, all, v6)
	return &FullError{Network: n.Name, Holders: all}
}

// declined reports whether another lender may still help.
func declined(err error) bool {
	_, retry := errors.AsType[*retryError](err)
	_, away := errors.AsType[*AwayError](err)
	_, taken := errors.AsType[*TakenError](err)
	return retry || away || taken || errors.Is(err, ErrFull)
}

// countOwn replaces what our own header said: we know better.
func (m *Manager) countOwn(nw *network, all map[discovery.HostID]Holder, v6 bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := Holder{Name: all[m.cfg.Self].Name}
	for _, b := range nw.family(v6) {
		own.Held += b.size
		own.Unused += b.size - b.used
	}
	if delete(all, m.cfg.Self); own.Held > 0 {
		all[m.cfg.Self] = own
	}
}

func (m *Manager) awayError(nw *network, host discovery.HostID, a netip.Addr, err error) error {
	v, n := m.cfg.View(), nw.spec()
	out := &AwayError{Addr: a, Host: host, HostName: hostName(v, host), Err: err}
	if s, ok := n.Covering(a); ok {
		out.Free = suggest(v, n, s, host)
	}
	return out
}
