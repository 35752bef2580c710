package endpoint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// unplugs holds the interfaces that are being removed although their addresses are
// free already. An address gets its next port only when the last one is gone: else
// frames would go to the dying one. The zero value is ready.
type unplugs struct {
	mu      sync.Mutex
	pending map[*unplug]struct{}
}

// unplug is one interface that is being removed.
type unplug struct {
	all      *unplugs
	endpoint discovery.Endpoint
	sandbox  uint64        // the key of its lock
	tried    chan struct{} // closed when the kernel was asked once
	gone     chan struct{} // closed when the interface is gone, or given up
	err      error         // of the first try; after tried
}

// begin notes that an endpoint's interface goes.
func (u *unplugs) begin(e discovery.Endpoint, sandbox uint64) *unplug {
	one := &unplug{all: u, endpoint: e, sandbox: sandbox, tried: make(chan struct{}), gone: make(chan struct{})}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[*unplug]struct{}{}
	}
	u.pending[one] = struct{}{}
	return one
}

// cancel says that the interface stays after all.
func (one *unplug) cancel() {
	close(one.tried)
	one.end()
}

// end says that the interface went, or that another agent has to remove it.
func (one *unplug) end() {
	one.all.mu.Lock()
	defer one.all.mu.Unlock()
	delete(one.all.pending, one)
	close(one.gone)
}

// wait returns when no interface with the address is being removed; an error,
// when ctx ends before that.
func (u *unplugs) wait(ctx context.Context, a netip.Addr) error {
	for {
		one := u.find(func(o *unplug) bool { return slices.Contains(o.endpoint.Addrs(), a) })
		if one == nil {
			return nil
		}
		select {
		case <-one.gone:
		case <-ctx.Done():
			return fmt.Errorf("the interface that had %s before is still being removed: %w", a, ctx.Err())
		}
	}
}

// waitTried returns when the kernel was asked to remove each interface of a sandbox
// that is being removed: the next one may have its name. One that the kernel refused
// to remove is not waited for.
func (u *unplugs) waitTried(ctx context.Context, sandbox uint64) error {
	for {
		one := u.find(func(o *unplug) bool { return o.sandbox == sandbox && !closed(o.tried) })
		if one == nil {
			return nil
		}
		select {
		case <-one.tried:
		case <-ctx.Done():
			return fmt.Errorf("an interface of the sandbox is still being removed: %w", ctx.Err())
		}
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// waitAll returns when no interface is being removed, or after limit; left is how
// many are still there.
func (u *unplugs) waitAll(limit time.Duration) (left int) {
	late := time.After(limit)
	for {
		one := u.find(func(*unplug) bool { return true })
		if one == nil {
			return 0
		}
		select {
		case <-one.gone:
		case <-late:
			u.mu.Lock()
			defer u.mu.Unlock()
			return len(u.pending)
		}
	}
}

// find is one of the pending; nil when there is none.
func (u *unplugs) find(wanted func(*unplug) bool) *unplug {
	u.mu.Lock()
	defer u.mu.Unlock()
	for one := range u.pending {
		if wanted(one) {
			return one
		}
	}
	return nil
}

// removing reports whether an endpoint's interface is being removed.
func (u *unplugs) removing(id discovery.EndpointID) bool {
	return u.find(func(o *unplug) bool { return o.endpoint.ID == id }) != nil
}

// unplugAgain is the pause between two tries to remove an interface.
const unplugAgain = time.Second

// unplug removes an endpoint's interface in the background; until it is gone its
// address has a port. When the membership ends before that, the sweep of the next
// agent removes the interface.
func (p *parts) unplug(ctx context.Context, one *unplug) {
	ctx = context.WithoutCancel(ctx)
	id := one.endpoint.ID
	go func() {
		defer one.end()
		err := p.Kernel.Detach(ctx, id.String())
		one.err = err
		close(one.tried)
		for err != nil {
			p.Log.Warn("interface of a detached endpoint not removed yet", "endpoint", id, "err", err)
			if !pace.Sleep(p.background, unplugAgain) {
				return
			}
			err = p.Kernel.Detach(ctx, id.String())
		}
	}()
}
