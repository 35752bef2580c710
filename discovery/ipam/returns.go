package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// pendingReturn is something that goes back to the pool or to its lender. Its
// record is written before the pool or the lender is asked for the thing, so
// that a crash in between leaks nothing: after a restart what no lease took up
// is given back.
type pendingReturn struct {
	number uint64
	what   returnRecord
	busy   bool // a request is still at it, or Run is
	tried  bool // the pool may have been told already
}

// isBlock reports whether a block goes back, else an address does.
func (g *pendingReturn) isBlock() bool { return g.what.Block.IsValid() }

// intend writes down that an address of nw is about to be got, and must be
// given back if nothing comes of it. The network is written with it: a request
// that is still under way when this process dies may reach the pool after the
// next process gave the address back, and only its readings of the network find
// that.
func (m *Manager) intend(nw *network, w returnRecord) (*pendingReturn, error) {
	w.Network = nw.id()
	m.mu.Lock()
	g := m.newReturn(w)
	g.busy, g.tried = true, true
	m.mu.Unlock()
	if err := m.disk.Commit(putNetwork(nw.spec()), putReturn(g.number, g.what)); err != nil {
		m.forget(g)
		return nil, err
	}
	return g, nil
}

// newReturn registers w under a new number. m.mu is held.
func (m *Manager) newReturn(w returnRecord) *pendingReturn {
	m.number++
	g := &pendingReturn{number: m.number, what: w}
	if g.what.Loan == 0 && !g.isBlock() {
		g.what.Loan = g.number
	}
	m.returns[g.number] = g
	return g
}

// forget removes a pendingReturn that nothing came of.
func (m *Manager) forget(g *pendingReturn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.returns, g.number)
}

// holdBack keeps g's address from being given before g is done. An address
// that is leased by itself stays so. Manager.mu is held.
func (nw *network) holdBack(g *pendingReturn) {
	a := g.what.Addr
	if nw.held[a] != nil {
		return
	}
	if b := nw.blockOf(a); b != nil {
		b.takeThis(a)
	}
	nw.held[a] = &holding{addr: a, reserved: true, back: g}
}

// giveBack does what can be done of the returns; it stops when the pool is
// away. Only Run calls it: who alone takes things back cannot race himself.
func (m *Manager) giveBack(ctx context.Context) error {
	for _, g := range m.idleReturns() {
		if err := m.giveBackOne(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// idleReturns lists what nobody works on, oldest first.
func (m *Manager) idleReturns() []*pendingReturn {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*pendingReturn
	for _, g := range m.returns {
		if !g.busy {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b *pendingReturn) int { return int(int64(a.number - b.number)) })
	return out
}

func (m *Manager) giveBackOne(ctx context.Context, g *pendingReturn) error {
	m.mu.Lock()
	if m.returns[g.number] != g || g.busy {
		m.mu.Unlock()
		return nil // leased again in the meantime
	}
	g.busy, g.tried = true, true
	m.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	unlock, err := m.lockBlocksFor(ctx, g)
	if err == nil {
		defer unlock()
		err = m.tell(ctx, g)
	}
	if err == nil {
		err = m.disk.Commit(deleteReturn(g.number))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g.busy = false
	if err != nil {
		return fmt.Errorf("give back %s: %w", g, err)
	}
	m.returned(g)
	return nil
}

// lockBlocksFor keeps others from reading or claiming blocks of the network while g,
// a block of it, goes back.
func (m *Manager) lockBlocksFor(ctx context.Context, g *pendingReturn) (unlock func(), err error) {
	m.mu.Lock()
	nw := m.nets[g.what.Network]
	m.mu.Unlock()
	if nw == nil || !g.isBlock() {
		return func() {}, nil
	}
	return nw.unlockBlocks, nw.lockBlocks(ctx)
}

// returned forgets g, which is done. m.mu is held.
func (m *Manager) returned(g *pendingReturn) {
	delete(m.returns, g.number)
	nw := m.nets[g.what.Network]
	if nw == nil {
		return
	}
	if h := nw.held[g.what.Addr]; h != nil && h.back == g {
		nw.release(h, false)
	}
}

func (g *pendingReturn) String() string {
	if g.isBlock() {
		return "block " + g.what.Block.String()
	}
	return "address " + g.what.Addr.String()
}

// tell tells the pool, then the lender: once the lender knows, it may give the
// address out, so the reservation must be gone before.
func (m *Manager) tell(ctx context.Context, g *pendingReturn) error {
	w := g.what
	if g.isBlock() {
		return away(ctx, m.releaseBlock(ctx, discovery.Block{
			Network: w.Network, Prefix: w.Block, Host: m.cfg.Self, State: discovery.BlockActive, Seq: w.Seq, Index: w.Index,
		}))
	}
	if w.Addr.IsValid() {
		if err := m.cfg.Pool.Unreserve(ctx, w.Network, w.Addr, m.cfg.Self); err != nil {
			return away(ctx, err)
		}
	}
	m.tellLender(ctx, w)
	return nil
}

// releaseBlock is ReleaseBlock, whose answer may have been lost last time: a
// block that the pool no longer counts as ours has gone back.
func (m *Manager) releaseBlock(ctx context.Context, b discovery.Block) error {
	err := m.cfg.Pool.ReleaseBlock(ctx, b)
	if err == nil || errors.Is(err, ErrStoreAway) || ctx.Err() != nil {
		return err
	}
	all, listErr := m.cfg.Pool.Blocks(ctx, b.Network)
	if listErr != nil {
		return err
	}
	for _, now := range all {
		if now.Prefix == b.Prefix && now.Host == m.cfg.Self {
			return m.cfg.Pool.ReleaseBlock(ctx, now) // written again since: a wiped pool was filled
		}
	}
	return nil
}

// tellLender says once that the loan is over. A lender that misses it finds
// out by itself: it reads the reservations of its blocks, at its start at the
// latest.
func (m *Manager) tellLender(ctx context.Context, w returnRecord) {
	lender := w.Lender
	if lender.IsZero() && w.Addr.IsValid() {
		lender = advertiser(m.cfg.View(), w.Network, w.Addr)
	}
	if lender.IsZero() || lender == m.cfg.Self || !alive(m.cfg.View(), lender) {
		return
	}
	r := request{kind: kindReturn, network: w.Network, loan: w.Loan, v6: w.V6, addr: w.Addr}
	if _, err := m.ask(ctx, lender, r); err != nil {
		m.cfg.Log.Debug("return not delivered", "member", lender, "addr", w.Addr, "err", err)
	}
}

// ask sends a request to another member and decodes its answer.
func (m *Manager) ask(ctx context.Context, to discovery.HostID, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, loanWait)
	defer cancel()
	raw, err := m.cfg.Lend(ctx, to, r.encode())
	if err != nil {
		return answer{}, fmt.Errorf("ask host %s: %w", to, err)
	}
	return decodeAnswer(raw)
}

// returnStray queues the end of a reservation of ours that nothing here knows
// of, so that others find the address free. Nor is it known here whether the
// reservation stands still, so no lease may take it up.
func (m *Manager) returnStray(nw *network, a netip.Addr) error {
	m.mu.Lock()
	if nw.held[a] != nil {
		m.mu.Unlock()
		return nil
	}
	g := m.newReturn(returnRecord{Network: nw.id(), Addr: a, V6: a.Is6()})
	g.busy, g.tried = true, true
	nw.holdBack(g)
	m.mu.Unlock()
	err := m.disk.Commit(putReturn(g.number, g.what))
	m.mu.Lock()
	defer m.mu.Unlock()
	g.busy = false // unwritten it is told all the same: what is lost by a crash is found again
	m.wake.Set()
	return err
}
