package agent

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// tasks are what runs for one membership. One that fails ends all.
type tasks struct {
	ctx     context.Context // of them all
	leasing context.Context // of those that a host which was taken out may not do
	group   *errgroup.Group
	cancel  func() // ends them; what they return then is no failure
	forgo   func() // ends leasing

	mu       sync.Mutex
	running  map[string]bool
	stopping bool
}

func newTasks() *tasks {
	t := &tasks{running: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	t.group, t.ctx = errgroup.WithContext(ctx)
	t.leasing, t.forgo = context.WithCancel(t.ctx)
	t.cancel = func() {
		t.mu.Lock()
		t.stopping = true
		t.mu.Unlock()
		cancel()
	}
	return t
}

// start begins a task, unless it runs already.
func (t *tasks) start(name string, run func(context.Context) error) {
	t.mu.Lock()
	begun := t.running[name]
	t.running[name] = true
	t.mu.Unlock()
	if begun {
		return
	}
	t.group.Go(func() error {
		if err := run(t.ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// started reports whether a task was begun.
func (t *tasks) started(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[name]
}

// wait returns the first failure, once every task has ended.
func (t *tasks) wait() error { return t.group.Wait() }

// failed reports whether the tasks were ended by one of them.
func (t *tasks) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.stopping
}
