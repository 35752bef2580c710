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
// may have been forgotten since, were this host stopped for long in between; what
// it confirms afterwards stays, because it looks at the reservation before it
// takes an address back.
func (l *lender) borrow(ctx context.Context, nw *network, h *holding, b *discovery.Block, from discovery.HostID, want netip.Addr) error {
	if want.IsValid() {
		// First of all, so that no other request of this host is at it: to the
		// pool both would have the same reservation, and the one that fails would
		// give it back.
		if err := await(nw, h, want); err != nil {
			return err
		}
	}
	g, err := l.intend(nw, returnRecord{Addr: want, V6: want.Is6(), Lender: from})
	if err != nil {
		unhold(nw, h)
		return err
	}
	return l.conclude(nw, h, g, l.borrowFrom(ctx, nw, h, g, b))
}

// borrowFrom asks g's lender, the pool, and the lender again.
func (l *lender) borrowFrom(ctx context.Context, nw *network, h *holding, g *pendingReturn, b *discovery.Block) error {
	a, err := l.askLoan(ctx, nw, g, g.what.Addr)
	if err != nil {
		return err
	}
	if b == nil {
		if err := await(nw, h, a); err != nil {
			return err
		}
		if b, err = l.locate(ctx, nw, g, a); err != nil {
			return err
		}
	}
	if err := l.reserveAt(ctx, nw, h, b); err != nil {
		return err
	}
	if _, err := l.askLoan(ctx, nw, g, a); err != nil {
		return err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	h.host, h.loan = g.what.Lender, g.what.Loan
	return nil
}

// locate completes g with the address that was lent, and returns its block.
func (l *lender) locate(ctx context.Context, nw *network, g *pendingReturn, a netip.Addr) (*discovery.Block, error) {
	nw.mu.Lock()
	g.what.Addr = a
	nw.mu.Unlock()
	if err := l.cfg.Disk.Commit(putReturn(g.number, g.what)); err != nil {
		return nil, err
	}
	b, held, err := l.cfg.Pool.BlockAt(ctx, nw.spec(), a)
	if err != nil {
		return nil, fmt.Errorf("find block of %s: %w", a, away(ctx, err))
	}
	if !held || b.Host != g.what.Lender {
		return nil, &retryError{fmt.Errorf("block of %s changed hands", a)}
	}
	return &b, nil
}

// askLoan asks g's lender for a, or any address when a is zero.
func (l *lender) askLoan(ctx context.Context, nw *network, g *pendingReturn, a netip.Addr) (netip.Addr, error) {
	w := g.what
	got, err := l.ask(ctx, w.Lender, request{kind: kindLend, network: w.Network, loan: w.Loan, v6: w.V6, addr: a})
	if err != nil {
		return netip.Addr{}, l.awayError(nw, w.Lender, a, err)
	}
	switch got.outcome {
	case outcomeYes:
		if s, ok := nw.spec().Covering(got.addr); !ok || !s.Assignable(got.addr) || a.IsValid() && a != got.addr {
			return netip.Addr{}, fmt.Errorf("host %s lent %s: %w", w.Lender, got.addr, discovery.ErrMalformed)
		}
		return got.addr, nil
	case outcomeTaken:
		taken := l.takenError(l.cfg.View(), w.Network, a, got.host)
		taken.Endpoint = got.endpoint
		return netip.Addr{}, taken
	case outcomeNotMine:
		return netip.Addr{}, &retryError{fmt.Errorf("host %s has no block of %s", w.Lender, a)}
	case outcomeNone:
		return netip.Addr{}, fmt.Errorf("host %s: %w", w.Lender, ErrFull)
	}
	return netip.Addr{}, l.awayError(nw, w.Lender, a, errors.New("it refused"))
}

// ask sends a request to another member and decodes its answer.
func (l *lender) ask(ctx context.Context, to discovery.HostID, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, loanWait)
	defer cancel()
	raw, err := l.cfg.Lend(ctx, to, r.encode())
	if err != nil {
		return answer{}, fmt.Errorf("ask host %s: %w", to, err)
	}
	return decodeAnswer(raw)
}

// borrowAny gets any address from a member that has unused ones.
func (l *lender) borrowAny(ctx context.Context, nw *network, h *holding) error {
	n, v := nw.spec(), l.cfg.View()
	s, _ := subnet4(n)
	all := holders(v, n, s)
	for _, from := range lenders(v, l.cfg.Self, all) {
		err := l.borrow(ctx, nw, h, nil, from, netip.Addr{})
		if !declined(err) {
			return err
		}
	}
	l.countOwn(nw, all)
	return &FullError{Network: n.Name, Holders: all}
}

// declined reports whether another lender may still help.
func declined(err error) bool {
	_, retry := errors.AsType[*retryError](err)
	_, away := errors.AsType[*AwayError](err)
	_, taken := errors.AsType[*TakenError](err)
	return retry || away || taken || errors.Is(err, ErrFull)
}

// countOwn replaces what this host's own header said by what is in hand.
func (l *lender) countOwn(nw *network, all map[discovery.HostID]Holder) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	own := Holder{Name: all[l.cfg.Self].Name}
	for b := range nw.open() {
		own.Held += b.size
		own.Unused += b.size - b.used
	}
	if delete(all, l.cfg.Self); own.Held > 0 {
		all[l.cfg.Self] = own
	}
}

func (l *lender) awayError(nw *network, host discovery.HostID, a netip.Addr, err error) error {
	v, n := l.cfg.View(), nw.spec()
	out := &AwayError{Addr: a, Host: host, HostName: hostName(v, host), Err: err}
	if s, ok := n.Covering(a); ok {
		out.Free = suggest(v, n, s, host)
	}
	return out
}
