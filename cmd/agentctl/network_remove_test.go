package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// slowRemoval is a cluster in which each removal waits for the other hosts.
type slowRemoval struct {
	*cluster
	takes   time.Duration
	at, max atomic.Int32 // removals under way, and the most
	removed atomic.Int32
}

func (s *slowRemoval) NetworkRemove(ctx context.Context, name string, _ bool) error {
	if now := s.at.Add(1); now > s.max.Load() {
		s.max.Store(now)
	}
	defer s.at.Add(-1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return api.Errorf(api.KindTimeout, "network rm %s: %v", name, ctx.Err())
	}
	if strings.HasPrefix(name, "used") {
		return api.Errorf(api.KindConflict, "network rm %s: in use by db on host1", name).WithHint("agentctl network rm -f %s # detaches them", name)
	}
	s.removed.Add(1)
	return nil
}

// A hundred networks in one call: each has a time of its own, none is left because
// others were slow, and what was not removed is said once.
func TestManyNetworksAreRemovedInOneCall(t *testing.T) {
	slow := &slowRemoval{cluster: newCluster(), takes: 200 * time.Millisecond}
	ag, err := startService(slow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ag.remove)
	args := []string{"network", "rm", "--timeout", "2s", "n0"} // n0 is named twice
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("n%d", i)
		if i%10 == 9 {
			name = fmt.Sprintf("used%d", i)
		} else {
			want = append(want, name)
		}
		args = append(args, name)
	}
	var stdout, stderr bytes.Buffer
	if code := run(args, strings.NewReader(""), &stdout, &stderr, socketOnly(ag.socket)); code != 5 {
		t.Errorf("exit %d, want 5", code)
	}
	if got := strings.Fields(stdout.String()); !slices.Equal(got, want) || slow.removed.Load() != 90 {
		t.Errorf("%d removed, printed %v", slow.removed.Load(), got)
	}
	if slow.max.Load() < 2 || slow.max.Load() > removedAtOnce {
		t.Errorf("%d at once", slow.max.Load())
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if lines[0] != "agentctl: network rm: 10 of 100 not removed: used9, used19, used29, used39, used49 and 5 more: in use by db on host1" || len(lines) != 1+mostHints {
		t.Errorf("the summary is\n%s", &stderr)
	}
}

// A person who waits sees how far it is.
func TestRemovalOfManyNetworksShowsProgress(t *testing.T) {
	ag := newAgent(t)
	tty, screen := terminal(t)
	if code := run([]string{"network", "rm", "red", "none"}, strings.NewReader(""), &bytes.Buffer{}, tty, socketOnly(ag.socket)); code != 4 {
		t.Errorf("exit %d", code)
	}
	readUntil(t, screen, "2 of 2 networks, 1 not removed")
}
