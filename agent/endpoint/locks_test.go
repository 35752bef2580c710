package endpoint

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func lock(t *testing.T, k *keyedLocks, key uint64) (unlock func()) {
	t.Helper()
	unlock, err := k.lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

// usersOf is how many requests hold or want a key.
func (k *keyedLocks) usersOf(key uint64) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.held[key]; l != nil {
		return l.users
	}
	return 0
}

func TestKeyedLocks(t *testing.T) {
	var k keyedLocks
	unlock := lock(t, &k, 1)
	lock(t, &k, 2)() // another key does not wait
	order := make(chan int, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer lock(t, &k, 1)()
		order <- 2
	}()
	order <- 1
	unlock()
	<-done
	if first := <-order; first != 1 {
		t.Error("a held key was locked")
	}
	if len(k.held) != 0 {
		t.Errorf("%d locks left, want none", len(k.held))
	}
}

// Whoever gives up waiting leaves no trace, and the lock goes to the next.
func TestKeyedLocksEndWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyedLocks
		unlock := lock(t, &k, 1)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := k.lock(ctx, 1)
			gaveUp <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the request", err)
		}
		if got := k.usersOf(1); got != 1 {
			t.Errorf("%d requests have or want the lock, want the holder alone", got)
		}
		unlock()
		lock(t, &k, 1)()
		if len(k.held) != 0 {
			t.Errorf("%d locks left, want none", len(k.held))
		}
	})
}
