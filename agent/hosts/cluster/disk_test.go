package cluster_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// assertDisk checks that a host says of its disk why nothing is attached, in status and
// to who attaches; an empty why: it attaches.
func assertDisk(t *testing.T, s *agenttest.Sandbox, why, hint string) {
	t.Helper()
	h := s.Host
	agenttest.Eventually(t, 15*time.Second, h.Name+": the check disk", func() error {
		var st struct {
			State  string
			Checks []struct{ Name, State, Detail, Hint string }
		}
		r := h.Ctl("status", "-o", "json")
		if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
			return fmt.Errorf("%w: %s", err, r)
		}
		for _, c := range st.Checks {
			if c.Name == "disk" && (c.State == "ok") == (why == "") && strings.Contains(c.Detail, why) && strings.Contains(c.Detail, h.DataDir()) && strings.Contains(c.Hint, hint) {
				return nil
			}
		}
		return fmt.Errorf("%s", r)
	})
	if why != "" {
		_, r := s.TryAttach("blue", "new")
		if r.Code != 1 || !strings.Contains(r.Stderr, why) || !strings.Contains(strings.Join(agenttest.Hints(r), ""), hint) {
			t.Errorf("attach: %s", r)
		}
		return
	}
	agenttest.Eventually(t, 15*time.Second, h.Name+": attach", func() error {
		if _, r := s.TryAttach("blue", "new"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	s.Detach("blue", "new")
}

// What is attached does not hang on a disk: while it takes nothing, and over restarts,
// no packet is lost and every name is answered.
func TestDataDirectoryThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{})
	h := l.Host(3)
	disk := agenttest.NewDisk(t, h.DataDir(), "4m")
	l.Assemble()
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	pings := []*agenttest.Pinger{from[0].StartPing(from[2].Addr), from[2].StartPing(from[1].Addr)}
	names := []string{agenttest.FQDN("on-h1", "blue"), agenttest.FQDN("on-h2", "blue"), agenttest.FQDN("on-h3", "blue")}
	var loads []*agenttest.DNSLoad
	for _, o := range from {
		loads = append(loads, o.DNS.Load(names...))
	}
	start, sandbox := time.Now(), h.Sandbox("new")
	restart := func(spoil func()) {
		h.Stop()
		spoil()
		h.Start()
		l.Host(1).AwaitMembers(3)
	}
	const full, readOnly = "no space left on device", "read-only file system"

	disk.Fill()
	assertDisk(t, sandbox, full, "df -h "+h.DataDir())
	restart(func() {})
	assertDisk(t, sandbox, full, "df -h "+h.DataDir())
	disk.Free()
	assertDisk(t, sandbox, "", "")
	restart(disk.ReadOnly)
	assertDisk(t, sandbox, readOnly, "mount -o remount,rw "+h.DataDir())
	restart(func() {})
	_, r := sandbox.TryAttach("blue", "new")
	h.TypeAll(t, r, nil) // mounts it writable again
	assertDisk(t, sandbox, "", "")
	restart(func() {})
	assertDisk(t, sandbox, "", "")

	ran := time.Since(start)
	assertNotDenied(t, l, h, loads)
	for _, p := range pings {
		p.AssertNoLoss(ran)
	}
}
