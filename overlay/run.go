package overlay

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	resync     = 60 * time.Second       // how long a silent difference may last
	gather     = 200 * time.Millisecond // changes seldom come alone
	spacing    = time.Second            // between passes that changes ask for
	maxBackoff = resync
)

// Run repairs drift: when the kernel says that something changed, every 60
// seconds, and what a Set could not do. It returns nil when ctx ends.
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
			t.changed(time.Now())
		case <-o.failed:
			t.failed(time.Now())
		case <-timer.C:
			t.passed(time.Now(), o.repair(ctx))
		}
		timer.Reset(time.Until(t.due))
	}
}

// repair is one pass with a fresh dump.
func (o *Overlay) repair(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.set {
		return nil
	}
	o.view = nil
	repaired, err := o.reconcile(ctx)
	if repaired > 0 {
		o.log.Info("kernel repaired", "objects", repaired)
	}
	if err != nil && ctx.Err() == nil {
		o.log.Warn("kernel not as wanted", "err", err)
	}
	return err
}

// timing decides when the next pass is due. Our own programming comes back as
// a change notification; a pass that finds nothing to do ends that echo, and
// while passes fail only the backoff counts, so that neither loops.
type timing struct {
	due     time.Time
	last    time.Time // the last pass
	backoff time.Duration
}

func (t *timing) changed(now time.Time) {
	if t.backoff == 0 {
		t.notLater(latest(now.Add(gather), t.last.Add(spacing)))
	}
}

func (t *timing) failed(now time.Time) {
	if t.backoff == 0 {
		t.backoff = spacing
		t.notLater(now.Add(t.backoff))
	}
}

func (t *timing) passed(now time.Time, err error) {
	t.last = now
	if err == nil {
		t.backoff = 0
		t.due = now.Add(jitter(resync))
		return
	}
	t.backoff = min(max(2*t.backoff, spacing), maxBackoff)
	t.due = now.Add(t.backoff)
}

func (t *timing) notLater(at time.Time) {
	if at.Before(t.due) {
		t.due = at
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// jitter spreads the passes of a cluster that was started at once.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5)
}
