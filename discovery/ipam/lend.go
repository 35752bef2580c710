package ipam

import (
	"context"
	"time"

	"github.com/weft-net/weft/discovery"
)

// lender lends addresses of this host's blocks to other members, and borrows
// what lies outside them: from the pool, or from the member whose block it is.
type lender struct{ *shared }

func (l *lender) serve(from discovery.HostID, body []byte) answer {
	r, err := decodeRequest(body)
	if err != nil {
		l.cfg.Log.Warn("loan request not understood", l.cfg.View().LogMember(from), "err", err)
		return answer{outcome: outcomeRefused}
	}
	_, nw, leave, ok := l.nets.find(context.Background(), r.network)
	if !ok {
		return answer{outcome: outcomeNotMine}
	}
	defer leave()
	switch r.kind {
	case kindLend:
		return l.serveLend(nw, from, r)
	case kindReturn:
		return l.serveReturn(nw, from, r)
	case kindCheck:
		return l.serveCheck(nw, r)
	}
	return answer{outcome: outcomeRefused}
}

func (l *lender) serveLend(nw *network, from discovery.HostID, r request) answer {
	h, before, a := l.pickLoan(nw, from, r)
	if h == nil {
		return a
	}
	err := l.cfg.Disk.Commit(putAddress(nw.id, h.addr, h.record()))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.markIdle(h)
	if err != nil {
		l.cfg.Log.Warn("loan not written", "addr", h.addr, "err", err)
		if before != nil {
			nw.held[h.addr] = before
		} else {
			nw.release(h, false)
		}
		return answer{outcome: outcomeRefused}
	}
	nw.rereadBy(time.Now().Add(loanCheck))
	l.wake.Set()
	return answer{outcome: outcomeYes, host: l.cfg.Self, addr: h.addr}
}

// pickLoan marks the address to be lent and returns it, to be written down,
// with what stood there before; or nil and the answer.
func (l *lender) pickLoan(nw *network, from discovery.HostID, r request) (h, before *holding, _ answer) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.gen++
	if !r.addr.IsValid() {
		h, a := l.pickAnyLoan(nw, from, r)
		return h, nil, a
	}
	b := nw.blockOf(r.addr)
	if b == nil || b.lost || !b.subnet.Assignable(r.addr) {
		return nil, nil, answer{outcome: outcomeNotMine, host: l.cfg.Self}
	}
	before = nw.held[r.addr]
	switch {
	case before == nil:
		b.takeThis(r.addr)
	case before.state != stateLent || before.host != from:
		return nil, nil, l.usedAnswer(before)
	case before.busy:
		return nil, nil, answer{outcome: outcomeNotMine, host: l.cfg.Self} // ask again
	case before.loan == r.loan:
		before.gen = nw.gen
		return nil, nil, answer{outcome: outcomeYes, host: l.cfg.Self, addr: r.addr}
	}
	return nw.lend(from, r.addr, r.loan, b.Seq, nw.gen), before, answer{}
}

// pickAnyLoan picks an address of a block that may be taken from. nw.mu is held.
func (l *lender) pickAnyLoan(nw *network, from discovery.HostID, r request) (*holding, answer) {
	for b := range nw.open() {
		if b.Prefix.Addr().Is6() != r.v6 {
			continue
		}
		if a, ok := b.take(time.Now()); ok {
			return nw.lend(from, a, r.loan, b.Seq, nw.gen), answer{}
		}
	}
	return nil, answer{outcome: outcomeNone, host: l.cfg.Self}
}

// usedAnswer says who uses the address.
func (l *lender) usedAnswer(h *holding) answer {
	host, endpoint := l.userOf(h)
	return answer{outcome: outcomeTaken, host: host, endpoint: endpoint}
}

// serveReturn ends a loan. One that is unknown has ended already; one of
// another number may be newer than the message, so the pool is looked at.
func (l *lender) serveReturn(nw *network, from discovery.HostID, r request) answer {
	nw.mu.Lock()
	h := nw.loanOf(from, r)
	switch {
	case h == nil:
		nw.mu.Unlock()
		return answer{outcome: outcomeYes, host: l.cfg.Self}
	case h.loan != r.loan || h.busy:
		nw.mu.Unlock()
		l.rereadSoon(nw, 0)
		return answer{outcome: outcomeYes, host: l.cfg.Self}
	}
	h.busy = true
	nw.mu.Unlock()
	if err := l.endLoan(nw, h); err != nil {
		return answer{outcome: outcomeRefused}
	}
	return answer{outcome: outcomeYes, host: l.cfg.Self}
}

// endLoan takes a lent address back. h is busy.
func (l *lender) endLoan(nw *network, h *holding) error {
	err := l.cfg.Disk.Commit(putAddress(nw.id, h.addr, addressRecord{State: stateResting}))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.markIdle(h)
	if err == nil && nw.held[h.addr] == h {
		nw.gen++
		nw.loanEnded = nw.gen
		nw.release(h, true)
		l.wake.Set()
	}
	return err
}

// serveCheck says whether an address that the pool reserves for this host is
// still needed, and if not sees to it that the reservation ends.
func (l *lender) serveCheck(nw *network, r request) answer {
	nw.mu.Lock()
	h := nw.held[r.addr]
	if h != nil && h.back == nil {
		defer nw.mu.Unlock()
		return l.usedAnswer(h)
	}
	nw.mu.Unlock()
	if h == nil && r.addr.IsValid() {
		if err := l.returnStray(nw, r.addr); err != nil {
			l.cfg.Log.Warn("return not written", "addr", r.addr, "err", err)
		}
	}
	l.wake.Set()
	return answer{outcome: outcomeNotMine, host: l.cfg.Self}
}

// tellLender says once that the loan is over. A lender that misses it finds
// out by itself: it reads the reservations of its blocks, at its start at the
// latest.
func (l *lender) tellLender(ctx context.Context, w returnRecord) {
	lender := w.Lender
	if lender.IsZero() && w.Addr.IsValid() {
		lender = advertiser(l.cfg.View(), w.Network, w.Addr)
	}
	if lender.IsZero() || lender == l.cfg.Self || !alive(l.cfg.View(), lender) {
		return
	}
	r := request{kind: kindReturn, network: w.Network, loan: w.Loan, v6: w.V6, addr: w.Addr}
	if _, err := l.ask(ctx, lender, r); err != nil {
		l.cfg.Log.Debug("return not delivered", l.cfg.View().LogMember(lender), "addr", w.Addr, "err", err)
	}
}
