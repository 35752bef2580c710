// Package pace has what a loop needs to wait: a sleep that a context ends, a
// period that hosts do not share, a back-off, and a signal that merges with the
// one before. It knows nothing of what is waited for.
package pace

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d. It returns false when ctx ended first, and at once when ctx
// had ended already.
func Sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Jitter returns a random duration within a quarter of d to each side, so that
// hosts which were started together do not stay in step. d below 2 ns is
// returned as it is.
func Jitter(d time.Duration) time.Duration {
	if d/2 <= 0 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}

// Signal says that something happened, once however often it happened since the
// receiver last looked. It has one receiver: <-s. The zero value blocks for ever.
type Signal chan struct{}

// NewSignal returns a signal that was not set yet.
func NewSignal() Signal { return make(Signal, 1) }

// Set wakes the receiver, now or when it looks next. It never blocks.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Backoff says how long to wait after each failure in a row: First, then twice
// the wait of before, at most Most. It is not safe for concurrent use.
type Backoff struct {
	First, Most time.Duration
	wait        time.Duration
}

// Failed counts a failure and returns the wait that follows it.
func (b *Backoff) Failed() time.Duration {
	b.wait = min(max(2*b.wait, b.First), b.Most)
	return b.wait
}

// Worked forgets the failures.
func (b *Backoff) Worked() { b.wait = 0 }

// Failing reports whether the last attempt failed.
func (b *Backoff) Failing() bool { return b.wait > 0 }

// Hinted waits between two looks at something that is far away, which others say has
// changed. What they say is a hint: the more often a look found nothing new, the later
// it is followed. It is not safe for concurrent use.
type Hinted struct {
	First, Most time.Duration // from a look to the next one that a hint asks for
	wait        time.Duration
}

// Sleep waits for d after a look that found news or none, or less when hint is set
// meanwhile. It returns false when ctx ended first.
func (h *Hinted) Sleep(ctx context.Context, d time.Duration, hint Signal, news bool) bool {
	h.wait = min(2*h.wait, h.Most)
	if news || h.wait == 0 {
		h.wait = h.First
	}
	least := min(h.wait, d)
	if !Sleep(ctx, least) {
		return false
	}
	end := time.NewTimer(d - least)
	defer end.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-end.C:
		h.wait = 0
	case <-hint:
	}
	return true
}
