package embedded

import (
	"strings"
	"sync"

	"github.com/weft-net/weft/discovery/pace"
)

// waiter is one blocking query.
type waiter struct {
	key   string
	tree  bool // every key that starts with key
	woken pace.Signal
}

// waiters are the blocking queries that wait for a change.
type waiters struct {
	mu  sync.Mutex
	all map[*waiter]struct{}
}

// add registers a query. It must be called before the state is read, so that
// no change falls between the two.
func (ws *waiters) add(key string, tree bool) *waiter {
	w := &waiter{key: key, tree: tree, woken: pace.NewSignal()}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all == nil {
		ws.all = map[*waiter]struct{}{}
	}
	ws.all[w] = struct{}{}
	return w
}

func (ws *waiters) remove(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

// wake tells every query that asks for one of the keys.
func (ws *waiters) wake(keys []string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.all {
		if w.wants(keys) {
			w.woken.Set()
		}
	}
}

func (w *waiter) wants(keys []string) bool {
	for _, k := range keys {
		if k == w.key || w.tree && strings.HasPrefix(k, w.key) {
			return true
		}
	}
	return false
}
