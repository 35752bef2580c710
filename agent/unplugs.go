package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
)

// unplugs are the interfaces that are being removed while their addresses are
// free already: an address has one port, or frames to it would go to the dying
// one. The zero value is ready.
type unplugs struct {
	mu      sync.Mutex
	pending map[chan struct{}]discovery.Endpoint // closed when its interface is gone
}

// begin notes that an endpoint's interface goes; done says that it went.
func (u *unplugs) begin(e discovery.Endpoint) (done func()) {
	gone := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[chan struct{}]discovery.Endpoint{}
	}
	u.pending[gone] = e
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.pending, gone)
		close(gone)
	}
}

// wait returns when no interface with the address is being removed; an error,
// when ctx ends before that.
func (u *unplugs) wait(ctx context.Context, a netip.Addr) error {
	for {
		gone := u.one(func(e discovery.Endpoint) bool { return slices.Contains(e.Addrs(), a) })
		if gone == nil {
			return nil
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return fmt.Errorf("the interface that had %s before is still being removed: %w", a, ctx.Err())
		}
	}
}

// waitAll returns when no interface is being removed, or after limit: left of
// them are then still there.
func (u *unplugs) waitAll(limit time.Duration) (left int) {
	late := time.After(limit)
	for {
		gone := u.one(func(discovery.Endpoint) bool { return true })
		if gone == nil {
			return 0
		}
		select {
		case <-gone:
		case <-late:
			u.mu.Lock()
			defer u.mu.Unlock()
			return len(u.pending)
		}
	}
}

// one is one of the pending; nil when there is none.
func (u *unplugs) one(wanted func(discovery.Endpoint) bool) chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	for gone, e := range u.pending {
		if wanted(e) {
			return gone
		}
	}
	return nil
}

// removing reports whether an endpoint's interface is being removed.
func (u *unplugs) removing(id discovery.EndpointID) bool {
	return u.one(func(e discovery.Endpoint) bool { return e.ID == id }) != nil
}

const (
	unplugFor   = 5 * time.Second // for the interfaces that are being removed when an agent ends
	unplugAgain = time.Second     // between two tries to remove one
)

// unplug removes an endpoint's interface in the background. It calls tried after
// the first try, whose outcome it sends, and gone when the interface is: until then
// its address has a port. When the session ends before that, the next agent's reap
// removes it.
func (s *session) unplug(ctx context.Context, l Local, tried, gone func()) (first <-chan error) {
	ctx = context.WithoutCancel(ctx)
	outcome := make(chan error, 1)
	go func() {
		defer gone()
		err := s.overlay.Detach(ctx, l.Endpoint.ID.String())
		tried()
		outcome <- err
		for err != nil {
			s.log.Warn("interface of a detached endpoint not removed yet", "endpoint", l.Endpoint.ID, "err", err)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(unplugAgain):
			}
			err = s.overlay.Detach(ctx, l.Endpoint.ID.String())
		}
	}()
	return outcome
}
