package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery/pace"
)

// retryError is an attempt that may succeed when what stood in its way has
// been cleared by somebody: this host, the address's last owner, or the pool.
type retryError struct{ why error }

func (e *retryError) Error() string { return e.why.Error() }
func (e *retryError) Unwrap() error { return e.why }

// fillThis finds the slot one very address. Each address has one lender:
// this host when it lies in a block in hand, the pool when no block covers it,
// else the host whose block it is.
func (l *lessor) fillThis(ctx context.Context, nw *network, h *holding, want netip.Addr) error {
	if done, err := l.takeThis(nw, h, want); done {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	backoff := pace.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for {
		done, err := l.takeThis(nw, h, want)
		if !done && err == nil {
			err = l.lender.reserve(ctx, nw, h, want)
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

// takeThis gives h the address if it is in hand, or says by whom it is used;
// done is false with a nil error when the pool must be asked.
func (l *lessor) takeThis(nw *network, h *holding, want netip.Addr) (done bool, err error) {
	nw.mu.Lock()
	other := nw.held[want]
	if other != nil && other.back != nil {
		nw.mu.Unlock()
		return l.retake(nw, h, other)
	}
	if other != nil {
		host, endpoint := l.userOf(other)
		nw.mu.Unlock()
		return true, l.takenBy(nw, want, host, endpoint)
	}
	b := nw.blockOf(want)
	if b == nil || b.lost {
		nw.mu.Unlock()
		return false, nil
	}
	b.takeThis(want)
	nw.hold(h, want, b.Seq)
	nw.mu.Unlock()
	return true, l.persist(nw, h)
}

// retake leases a reservation again that waits to be given back, if the pool
// was not told yet: a container that restarts keeps its address without a
// round trip.
func (l *lessor) retake(nw *network, h, other *holding) (done bool, err error) {
	g, a := other.back, other.addr
	nw.mu.Lock()
	if g.busy || g.tried || nw.held[a] != other {
		nw.mu.Unlock()
		l.wake.Set()
		return false, &retryError{l.takenError(l.cfg.View(), nw.id, a, l.cfg.Self)}
	}
	g.busy = true
	nw.gen++
	h.gen = nw.gen
	h.reserved, h.host, h.loan = true, g.what.Lender, g.what.Loan
	nw.hold(h, a, g.what.Seq)
	nw.mu.Unlock()
	err = l.cfg.Disk.Commit(deleteReturn(g.number), putAddress(nw.id, a, h.record()))
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if err != nil {
		g.busy = false
		nw.held[a] = other
		return true, err
	}
	delete(nw.returns, g.number)
	return true, nil
}
