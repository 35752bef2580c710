package ipam

import (
	"context"
	"sync"

	"github.com/weft-net/weft/discovery"
)

// networks finds the networks of which something is held.
type networks struct {
	mu  sync.Mutex // guards all; a network's own mutex may be taken while it is held, never the other way round
	all map[discovery.NetworkID]*network
}

// enter returns what is held of n, for as long as the returned context lives;
// leave must be called.
func (r *networks) enter(ctx context.Context, n discovery.Network) (_ context.Context, nw *network, leave func()) {
	for {
		r.mu.Lock()
		nw = r.all[n.ID]
		if nw == nil {
			nw = newNetwork(n)
			r.all[n.ID] = nw
		}
		r.mu.Unlock()
		if ctx, leave, ok := r.join(ctx, nw, &n); ok {
			return ctx, nw, leave
		}
	}
}

// find is enter for a network that must be known already.
func (r *networks) find(ctx context.Context, id discovery.NetworkID) (_ context.Context, nw *network, leave func(), ok bool) {
	if nw = r.get(id); nw == nil {
		return ctx, nil, nil, false
	}
	ctx, leave, ok = r.join(ctx, nw, nil)
	return ctx, nw, leave, ok
}

// get returns the network of that id; nil: nothing of it is held.
func (r *networks) get(id discovery.NetworkID) *network {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[id]
}

// join makes the caller a user of nw until leave. The returned context ends
// with ErrDeleting when the network is dropped. ok is false when it was dropped
// and n does not make it known again.
func (r *networks) join(ctx context.Context, nw *network, n *discovery.Network) (_ context.Context, leave func(), ok bool) {
	gone, ok := nw.addUser(n)
	if !ok {
		return ctx, nil, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(gone, func() { cancel(ErrDeleting) })
	return ctx, func() {
		stop()
		cancel(nil)
		nw.removeUser()
	}, true
}

// list returns the networks, in no order.
func (r *networks) list() []*network {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*network, 0, len(r.all))
	for _, nw := range r.all {
		out = append(out, nw)
	}
	return out
}

// each calls do with each network, whose mutex is held meanwhile.
func (r *networks) each(do func(*network)) {
	for _, nw := range r.list() {
		nw.mu.Lock()
		do(nw)
		nw.mu.Unlock()
	}
}

// forget removes a network that was dropped, once all of it has gone back.
func (r *networks) forget(nw *network) {
	r.mu.Lock()
	defer r.mu.Unlock()
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if !nw.life.known && len(nw.returns) == 0 && len(nw.owners) == 0 && r.all[nw.id] == nw {
		nw.life.forgotten = true
		delete(r.all, nw.id)
	}
}
