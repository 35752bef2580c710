package agent

import (
	"sync"
	"time"
)

// keyedLocks is a mutex for each key: requests for one sandbox wait for each
// other, those for different ones do not. The zero value is ready.
type keyedLocks struct {
	mu   sync.Mutex
	held map[uint64]*keyedLock
	idle []chan struct{} // closed when nobody holds or wants a lock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock waits for the key and returns what unlocks it.
func (k *keyedLocks) lock(key uint64) (unlock func()) {
	l := k.use(key)
	l.Lock()
	return func() { k.release(key, l) }
}

func (k *keyedLocks) use(key uint64) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[uint64]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{}
		k.held[key] = l
	}
	l.users++
	return l
}

func (k *keyedLocks) release(key uint64, l *keyedLock) {
	l.Unlock()
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
