package endpoint

import (
	"context"
	"sync"
	"time"
)

// keyedLocks is a lock for each key: requests for one sandbox wait for each
// other, those for different ones do not. The zero value is ready.
type keyedLocks struct {
	mu   sync.Mutex
	held map[uint64]*keyedLock
	idle []chan struct{} // closed when nobody holds or wants a lock
}

type keyedLock struct {
	free  chan struct{} // holds one value while nobody has the lock
	users int           // that hold or want it
}

// lock waits for the key and returns what unlocks it. The error is that of ctx
// when it ends first.
func (k *keyedLocks) lock(ctx context.Context, key uint64) (unlock func(), err error) {
	l := k.use(key)
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; k.done(key, l) }, nil
	case <-ctx.Done():
		k.done(key, l)
		return nil, ctx.Err()
	}
}

func (k *keyedLocks) use(key uint64) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[uint64]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		k.held[key] = l
	}
	l.users++
	return l
}

func (k *keyedLocks) done(key uint64, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
	if len(k.held) == 0 {
		for _, c := range k.idle {
			close(c)
		}
		k.idle = nil
	}
}

// waitIdle returns true once nobody holds or wants a lock, false after limit.
func (k *keyedLocks) waitIdle(limit time.Duration) bool {
	k.mu.Lock()
	if len(k.held) == 0 {
		k.mu.Unlock()
		return true
	}
	idle := make(chan struct{})
	k.idle = append(k.idle, idle)
	k.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-time.After(limit):
		return false
	}
}
