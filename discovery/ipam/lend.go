package ipam

import (
	"context"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Serve answers another member's Manager. What it grants is persisted first.
func (m *Manager) Serve(from discovery.HostID, body []byte) []byte {
	r, err := decodeRequest(body)
	if err != nil {
		m.cfg.Log.Warn("loan request not understood", "member", from, "err", err)
		return answer{verdict: verdictRefused}.encode()
	}
	_, nw, leave, ok := m.find(context.Background(), r.network)
	if !ok {
		return answer{verdict: verdictNotMine}.encode()
	}
	defer leave()
	switch r.kind {
	case kindLend:
		return m.serveLend(nw, from, r).encode()
	case kindReturn:
		return m.serveReturn(nw, from, r).encode()
	case kindCheck:
		return m.serveCheck(nw, r).encode()
	}
	return answer{verdict: verdictRefused}.encode()
}

func (m *Manager) serveLend(nw *network, from discovery.HostID, r request) answer {
	h, before, a := m.pickLoan(nw, from, r)
	if h == nil {
		return a
	}
	err := m.disk.Commit(putAddress(nw.id(), h.addr, h.record()))
	m.mu.Lock()
	defer m.mu.Unlock()
	close(h.busy)
	h.busy = nil
	if err != nil {
		m.cfg.Log.Warn("loan not written", "addr", h.addr, "err", err)
		if before != nil {
			nw.held[h.addr] = before
		} else {
			nw.release(h, false)
		}
		return answer{verdict: verdictRefused}
	}
	nw.rereadBy(time.Now().Add(loanCheck))
	m.wake.Set()
	return answer{verdict: verdictYes, host: m.cfg.Self, addr: h.addr}
}

// pickLoan marks the address to be lent and returns it, to be written down,
// with what stood there before; or nil and the answer.
func (m *Manager) pickLoan(nw *network, from discovery.HostID, r request) (h, before *holding, _ answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gen++
	if !r.addr.IsValid() {
		h, a := m.pickAnyLoan(nw, from, r)
		return h, nil, a
	}
	b := nw.blockOf(r.addr)
	if b == nil || b.lost || !b.subnet.Assignable(r.addr) {
		return nil, nil, answer{verdict: verdictNotMine, host: m.cfg.Self}
	}
	before = nw.held[r.addr]
	switch {
	case before == nil:
		b.takeThis(r.addr)
	case before.state != stateLent || before.host != from:
		return nil, nil, m.heldAnswer(before)
	case before.busy != nil:
		return nil, nil, answer{verdict: verdictNotMine, host: m.cfg.Self} // ask again
	case before.loan == r.loan:
		before.gen = m.gen
		return nil, nil, answer{verdict: verdictYes, host: m.cfg.Self, addr: r.addr}
	}
	return nw.lendTo(from, r.addr, r.loan, b.Seq, m.gen), before, answer{}
}

func (m *Manager) pickAnyLoan(nw *network, from discovery.HostID, r request) (*holding, answer) {
	for _, b := range nw.family(r.v6) {
		if a, ok := b.take(time.Now()); ok {
			return nw.lendTo(from, a, r.loan, b.Seq, m.gen), answer{}
		}
	}
	return nil, answer{verdict: verdictNone, host: m.cfg.Self}
}

// lendTo notes a loan that is being written down. Manager.mu is held.
func (nw *network) lendTo(to discovery.HostID, a netip.Addr, loan, seq, gen uint64) *holding {
	h := &holding{addr: a, state: stateLent, host: to, loan: loan, seq: seq, gen: gen, since: time.Now(), busy: make(chan struct{})}
	nw.held[a] = h
	return h
}

// heldAnswer says by whom the address is held.
func (m *Manager) heldAnswer(h *holding) answer {
	if h.state == stateLent {
		return answer{verdict: verdictTaken, host: h.host}
	}
	return answer{verdict: verdictTaken, host: m.cfg.Self, endpoint: h.owner}
}

// serveReturn ends a loan. One that is unknown has ended already; one of
// another number may be newer than the message, so the pool is looked at.
func (m *Manager) serveReturn(nw *network, from discovery.HostID, r request) answer {
	m.mu.Lock()
	h := nw.loanOf(from, r)
	switch {
	case h == nil:
		m.mu.Unlock()
		return answer{verdict: verdictYes, host: m.cfg.Self}
	case h.loan != r.loan || h.busy != nil:
		m.mu.Unlock()
		m.rereadSoon(nw, 0)
		return answer{verdict: verdictYes, host: m.cfg.Self}
	}
	h.busy = make(chan struct{})
	m.mu.Unlock()
	if err := m.endLoan(nw, h); err != nil {
		return answer{verdict: verdictRefused}
	}
	return answer{verdict: verdictYes, host: m.cfg.Self}
}

// endLoan takes a lent address back. h is busy.
func (m *Manager) endLoan(nw *network, h *holding) error {
	err := m.disk.Commit(putAddress(nw.id(), h.addr, addressRecord{State: stateResting}))
	m.mu.Lock()
	defer m.mu.Unlock()
	close(h.busy)
	h.busy = nil
	if err == nil && nw.held[h.addr] == h {
		m.gen++
		nw.returned = m.gen
		nw.release(h, true)
		m.wake.Set()
	}
	return err
}

// loanOf finds what a RETURN speaks of. Manager.mu is held.
func (nw *network) loanOf(from discovery.HostID, r request) *holding {
	if r.addr.IsValid() {
		if h := nw.held[r.addr]; h != nil && h.state == stateLent && h.host == from {
			return h
		}
		return nil
	}
	for _, h := range nw.held {
		if h.state == stateLent && h.host == from && h.loan == r.loan {
			return h
		}
	}
	return nil
}

// serveCheck says whether an address that the pool reserves for us is still
// needed, and if not sees to it that the reservation ends.
func (m *Manager) serveCheck(nw *network, r request) answer {
	m.mu.Lock()
	h := nw.held[r.addr]
	if h != nil && h.back == nil {
		defer m.mu.Unlock()
		return m.heldAnswer(h)
	}
	m.mu.Unlock()
	if h == nil && r.addr.IsValid() {
		if err := m.returnStray(nw, r.addr); err != nil {
			m.cfg.Log.Warn("return not written", "addr", r.addr, "err", err)
		}
	}
	m.wake.Set()
	return answer{verdict: verdictNotMine, host: m.cfg.Self}
}
