package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// notified is a service manager's end of the notification socket.
type notified struct {
	path string
	mu   sync.Mutex
	got  []string // lines
}

func newNotified(t *testing.T, dir string) *notified {
	t.Helper()
	n := &notified{path: filepath.Join(dir, "notify")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 4096)
		for {
			size, err := c.Read(b)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.got = append(n.got, strings.Split(string(b[:size]), "\n")...)
			n.mu.Unlock()
		}
	})
	t.Cleanup(func() { c.Close(); done.Wait() })
	return n
}

func (n *notified) lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

// count is how many lines begin with prefix.
func (n *notified) count(prefix string) (c int) {
	for _, l := range n.lines() {
		if strings.HasPrefix(l, prefix) {
			c++
		}
	}
	return c
}

func (n *notified) await(t *testing.T, within time.Duration, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %q", what, within, n.lines())
		}
	}
}

func TestWatchdogHearsOnlyOfAnAgentThatLives(t *testing.T) {
	n := newNotified(t, t.TempDir())
	t.Setenv("NOTIFY_SOCKET", n.path)
	t.Setenv("WATCHDOG_USEC", "90000")
	ctx, cancel := context.WithCancel(t.Context())
	asked, answers := make(chan struct{}), make(chan error)
	alive := func(ctx context.Context) error {
		select {
		case asked <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-answers:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var guard sync.WaitGroup
	guard.Go(func() { manager{slog.New(slog.DiscardHandler)}.guard(ctx, alive) })

	for i := range 3 {
		<-asked
		if got := n.count("WATCHDOG=1"); got != i {
			t.Errorf("%d pings while the agent was asked for the %d. time", got, i+1)
		}
		answers <- nil
		n.await(t, 5*time.Second, "a ping for an answer", func() bool { return n.count("WATCHDOG=1") == i+1 })
	}
	<-asked
	time.Sleep(200 * time.Millisecond) // twice the watchdog's time: nobody may ping for it
	cancel()
	guard.Wait()
	if got := n.count("WATCHDOG=1"); got != 3 {
		t.Errorf("%d pings, one of them for an agent that hangs", got)
	}
}

func TestNoWatchdogIsAskedFor(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	manager{slog.New(slog.DiscardHandler)}.guard(t.Context(), func(context.Context) error {
		t.Error("the agent was asked")
		return nil
	})
}
