package agent

import "sync"

// keyedLocks is a mutex for each key: requests for one sandbox wait for each
// other, those for different ones do not. The zero value is ready.
type keyedLocks struct {
	mu   sync.Mutex
	held map[uint64]*keyedLock
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

// tryLock is lock for who cannot wait; ok is false when the key is held.
func (k *keyedLocks) tryLock(key uint64) (unlock func(), ok bool) {
	l := k.use(key)
	if l.TryLock() {
		return func() { k.release(key, l) }, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(key, l)
	return nil, false
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
	k.drop(key, l)
}

// drop forgets a lock that nobody uses; mu is held.
func (k *keyedLocks) drop(key uint64, l *keyedLock) {
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}
