package agent

import (
	"net/netip"
	"sync"
)

// unplugs are the interfaces that are being removed while their addresses are
// free already: an address has one port, or frames to it would go to the dying
// one. The zero value is ready.
type unplugs struct {
	mu      sync.Mutex
	pending map[netip.Addr]chan struct{} // closed when the interface is gone
}

// begin notes that the interface with these addresses goes; done says that it
// went.
func (u *unplugs) begin(addrs []netip.Addr) (done func()) {
	gone := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[netip.Addr]chan struct{}{}
	}
	for _, a := range addrs {
		u.pending[a] = gone
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, a := range addrs {
			if u.pending[a] == gone {
				delete(u.pending, a)
			}
		}
		close(gone)
	}
}

// wait returns when no interface with the address is being removed.
func (u *unplugs) wait(a netip.Addr) {
	for u.one(func(b netip.Addr) bool { return a == b }) {
	}
}

// waitAll returns when no interface is being removed.
func (u *unplugs) waitAll() {
	for u.one(func(netip.Addr) bool { return true }) {
	}
}

// one waits for one of the pending; false when there is none.
func (u *unplugs) one(wanted func(netip.Addr) bool) bool {
	u.mu.Lock()
	var gone chan struct{}
	for a, c := range u.pending {
		if wanted(a) {
			gone = c
		}
	}
	u.mu.Unlock()
	if gone == nil {
		return false
	}
	<-gone
	return true
}
