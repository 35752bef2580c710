package overlay

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	resync = 60 * time.Second       // how long a silent difference may last
	gather = 200 * time.Millisecond // changes seldom come alone
	share  = 20                     // passes take a twentieth of the time
)

// Run repairs drift: when the kernel says that something changed, every 60
// seconds, and what failed when it is due again. It returns nil when ctx ends.
func (o *Overlay) Run(ctx context.Context) error {
	changes := o.kernel.Changes(ctx)
	t := timing{due: time.Now().Add(jitter(resync))}
	timer := time.NewTimer(time.Until(t.due))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-changes:
			if !open {
				changes = nil
			}
			t.want(time.Now().Add(gather))
		case <-o.failed:
			t.want(o.nextTry())
		case <-timer.C:
			began := time.Now()
			o.repair(ctx)
			t.passed(began, time.Now())
			t.want(o.nextTry())
		}
		timer.Reset(time.Until(t.due))
	}
}

// nextTry is when the first of the troubles is due; zero when there is none.
func (o *Overlay) nextTry() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.troubles.next()
}

// repair is one pass with a fresh dump.
func (o *Overlay) repair(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.set {
		return
	}
	o.view = nil
	_, err := o.reconcile(ctx)
	if err == nil || ctx.Err() != nil {
		o.warned = ""
		return
	}
	if text := err.Error(); text != o.warned {
		o.warned = text
		o.log.Warn("kernel not as wanted", "err", err)
	}
}

// timing decides when the next pass is due. Our own programming comes back as a
// change notification; a pass that finds nothing to do ends that echo, and what
// failed is left alone until it is due, so that neither loops.
type timing struct {
	due  time.Time
	next time.Time // not sooner, whatever changes
}

// passed: a large table rests for longer, a second at most.
func (t *timing) passed(began, ended time.Time) {
	rest := min(max(share*ended.Sub(began), gather), time.Second)
	t.next, t.due = ended.Add(rest), ended.Add(jitter(resync))
}

// want asks for a pass at a time, zero: for none.
func (t *timing) want(at time.Time) {
	if at.IsZero() {
		return
	}
	if at.Before(t.next) {
		at = t.next
	}
	if at.Before(t.due) {
		t.due = at
	}
}

// jitter spreads the passes of a cluster that was started at once.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5)
}
