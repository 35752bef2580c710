package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Overlay keeps one kernel as the last State says. Its methods are safe for
// concurrent use; they take turns.
type Overlay struct {
	kernel Kernel
	log    *slog.Logger
	fabric string        // in the commands that are logged
	failed chan struct{} // capacity 1: something was left undone

	around atomic.Pointer[Surroundings] // in the way of the networks here
	count  counters

	mu       sync.Mutex
	state    State
	set      bool // state has been given
	attached map[string]Endpoint
	view     *view // nil: to be dumped
	facts    facts
	troubles troubles
	moves    moves
	repairs  repairs
	warned   string // what Run logged last of them
}

// facts are what the kernel has that is not ours and that we need to know.
type facts struct {
	uplinks Uplinks  // through which endpoints reach the world
	bridges []string // behind which only this host's own programs are
	guards  []Guard  // chains of other programs in which forwarded packets may end
	around  Surroundings
}

// New returns an Overlay that has not touched the kernel yet. fabric is what the
// fabric namespace is called in the commands that are logged and in errors.
func New(k Kernel, fabric string, log *slog.Logger) *Overlay {
	return &Overlay{kernel: k, log: log, fabric: fabric, failed: make(chan struct{}, 1), attached: map[string]Endpoint{}, troubles: troubles{}}
}

// Set makes the kernel carry s and returns when the difference is programmed.
// It is idempotent. The error joins one *ObjectError for each object that the kernel
// refuses, be it now or since a moment ago: each has a back-off of its own, from a
// second to a minute, and Run tries it again when that is over. The caller must not
// change s afterwards.
func (o *Overlay) Set(ctx context.Context, s State) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.moves.ports(o.state, s)
	o.state, o.set = s, true
	// From its first State on an endpoint is what States say of it: one that lost
	// its address to another host is left out of them.
	for i := range s.Networks {
		for _, p := range s.Networks[i].Ports {
			delete(o.attached, p.Endpoint)
		}
	}
	_, err := o.reconcile(ctx)
	if err != nil {
		o.retry()
	}
	return err
}

// Clean removes everything of ours from the kernel, the fabric namespace
// included. The Overlay then has no State until the next Set.
func (o *Overlay) Clean(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state, o.set, o.view = State{}, false, nil
	clear(o.attached)
	clear(o.troubles)
	o.repairs.had = nil
	if err := o.kernel.Clean(ctx); err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	return nil
}

// retry tells Run that something is left to do.
func (o *Overlay) retry() {
	select {
	case o.failed <- struct{}{}:
	default:
	}
}

// maxRounds bounds one reconciliation. A device that had to be made anew takes
// its entries with it, so a second round follows; a third is for what a busy
// host does in between.
const maxRounds = 3

// reconcile programs the difference and returns how many objects it changed.
func (o *Overlay) reconcile(ctx context.Context) (changed int, err error) {
	start := time.Now()
	defer func() { o.count.passed(start, err) }()
	defer func() { o.repairs.remember(o.view) }()
	for round := range maxRounds {
		put, extra, err := o.compare(ctx)
		if err != nil {
			return changed, err
		}
		o.troubles.keep(put, extra)
		p := program{Overlay: o, ctx: ctx, patient: true}
		if round == 0 {
			o.repairs.begin()
		}
		p.run(put, extra)
		o.repairs.end(o.log)
		o.announce(ctx)
		changed += p.changed
		if p.again || p.stale {
			o.view = nil
		}
		if ctx.Err() != nil {
			return changed, p.failures.err()
		}
		if !p.again {
			break
		}
	}
	if changed > 0 {
		o.log.Debug("kernel programmed", "objects", changed, "took", time.Since(start))
	}
	return changed, o.troubles.err()
}

// compare returns what to put and what the kernel has beyond it. Before a device is
// made the kernel is read anew: somebody else's may have its name by now.
func (o *Overlay) compare(ctx context.Context) (put, extra []Object, err error) {
	for fresh := o.view == nil; ; fresh = true {
		if err := o.dump(ctx); err != nil {
			return nil, nil, err
		}
		put, extra = o.view.diff(o.wanted())
		if fresh || !slices.ContainsFunc(put, func(w Object) bool { return w.Rank() == RankLink && o.view.get(w.Key()) == nil }) {
			return put, extra, nil
		}
		o.view = nil
	}
}

// dump reads the kernel unless we know what it has.
func (o *Overlay) dump(ctx context.Context) error {
	if o.view != nil {
		return nil
	}
	err := o.read(ctx)
	switch {
	case err == nil:
		delete(o.troubles, unread{})
	case ctx.Err() == nil:
		o.troubles.failed(unread{}, err, time.Now())
	}
	return err
}

func (o *Overlay) read(ctx context.Context) error {
	have, err := o.kernel.List(ctx)
	if err != nil {
		return fmt.Errorf("read the kernel's state: %w", err)
	}
	uplinks, err := o.kernel.Uplinks(ctx, o.state.VTEP)
	if err != nil {
		return fmt.Errorf("find the uplink: %w", err)
	}
	bridges, err := o.kernel.Bridges(ctx)
	if err != nil {
		return fmt.Errorf("find the bridges: %w", err)
	}
	guards, err := o.kernel.Guards(ctx)
	if err != nil {
		return fmt.Errorf("look for other packet filters: %w", err)
	}
	around, err := o.kernel.Around(ctx, o.state.interest(uplinks.Devices))
	if err != nil {
		return fmt.Errorf("look for other programs' routes and filters: %w", err)
	}
	o.notice(around)
	o.view, o.facts = newView(have), facts{uplinks, bridges, guards, around}
	return nil
}

// wanted is the State with what has been attached since. Objects of an endpoint
// whose link is gone are left out: they come with the link.
func (o *Overlay) wanted() []Object {
	s, refused := o.makeable(o.merged())
	return append(slices.DeleteFunc(objects(s, o.facts), func(w Object) bool {
		dev, ok := DeviceOf(w)
		return ok && dev.Place == Fabric && dev.Name[0] == 'k' && o.view.get(dev) == nil
	}), refused...)
}

// merged adds the endpoints that were attached but that the last State does not
// know yet, so that a State made before the attachment takes nothing from them.
func (o *Overlay) merged() State {
	if len(o.attached) == 0 {
		return o.state
	}
	s := o.state
	s.Networks = slices.Clone(s.Networks)
	for i := range s.Networks {
		n := &s.Networks[i]
		known := make(map[string]bool, len(n.Ports))
		for _, p := range n.Ports {
			known[p.Endpoint] = true
		}
		n.Ports = slices.Clone(n.Ports)
		for id, ep := range o.attached {
			if ep.VNI == n.VNI && !known[id] {
				n.Ports = append(n.Ports, ep.port())
			}
		}
	}
	return s
}

// sweep keeps of extra what is ours to delete and does not go by itself with a
// device that is deleted too.
func (o *Overlay) sweep(extra []Object) []Object {
	doomed := map[LinkKey]bool{}
	for _, e := range extra {
		if l, ok := e.(Link); ok && sweepable(l) {
			doomed[l.device()] = true
		}
	}
	return slices.DeleteFunc(extra, func(e Object) bool {
		dev, ok := DeviceOf(e)
		_, link := e.(Link)
		return !sweepable(e) || ok && !link && doomed[dev]
	})
}
