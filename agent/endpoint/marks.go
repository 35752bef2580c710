package endpoint

import (
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
)

// busy holds the endpoints that requests work on. Such an endpoint may have an
// interface and no entry in the journal, or the other way round, so the sweep
// leaves it alone. The zero value is ready.
type busy struct {
	mu  sync.Mutex
	ids map[discovery.EndpointID]int // to the number of requests
}

func (b *busy) mark(id discovery.EndpointID) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids == nil {
		b.ids = map[discovery.EndpointID]int{}
	}
	b.ids[id]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.ids[id]--; b.ids[id] == 0 {
			delete(b.ids, id)
		}
	}
}

func (b *busy) has(id discovery.EndpointID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ids[id] > 0
}

// linger is how long a network's devices stay after its last local endpoint
// went away, so that a container that is replaced does not rebuild them.
const linger = 15 * time.Second

// lately holds the networks that had endpoints here, and when. The zero value is
// ready.
type lately struct {
	mu sync.Mutex
	at map[discovery.NetworkID]time.Time
}

// note says that a network is in use now, with or without endpoints.
func (u *lately) note(id discovery.NetworkID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil {
		u.at = map[discovery.NetworkID]time.Time{}
	}
	u.at[id] = time.Now()
}

func (u *lately) forget(id discovery.NetworkID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.at, id)
}

// since returns the networks that were in use within the last d, and forgets the
// others.
func (u *lately) since(d time.Duration) map[discovery.NetworkID]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[discovery.NetworkID]bool{}
	for id, at := range u.at {
		if time.Since(at) < d {
			out[id] = true
		} else {
			delete(u.at, id)
		}
	}
	return out
}
