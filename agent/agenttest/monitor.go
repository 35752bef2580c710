package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Monitor records the kernel's own notifications in one namespace: what it
// does not show did not happen.
type Monitor struct {
	t     testing.TB
	procs []*process
}

// Monitor starts `ip monitor` with the given objects, and `bridge monitor fdb`
// when they name neigh.
func (l *Lab) Monitor(n Netns, objects ...string) *Monitor {
	l.t.Helper()
	m := &Monitor{t: l.t}
	m.start(l, n, append([]string{"ip", "-n", string(n), "monitor"}, objects...))
	if strings.Contains(strings.Join(objects, " "), "neigh") {
		m.start(l, n, []string{"bridge", "-n", string(n), "monitor", "fdb"})
	}
	return m
}

func (m *Monitor) start(l *Lab, n Netns, args []string) {
	m.t.Helper()
	log := filepath.Join(l.Dir, fmt.Sprintf("monitor-%s-%s.log", args[0], n))
	os.Remove(log)
	p := start(m.t, log, nil, args...)
	m.procs = append(m.procs, p)
	Eventually(m.t, 5*time.Second, strings.Join(args, " ")+" listens", func() error {
		// The line of a socket that has joined groups (proc(5), net/netlink):
		// sk, Eth, Pid, Groups.
		for line := range strings.Lines(must(m.t, "cat", fmt.Sprintf("/proc/%d/net/netlink", p.cmd.Process.Pid))) {
			f := strings.Fields(line)
			if len(f) > 3 && f[2] == fmt.Sprint(p.cmd.Process.Pid) && f[3] != "00000000" {
				return nil
			}
		}
		return fmt.Errorf("no socket with groups")
	})
}

// Stop ends the monitor and returns the lines it printed.
func (m *Monitor) Stop() []string {
	m.t.Helper()
	var lines []string
	for _, p := range m.procs {
		if err := p.signal(syscall.SIGINT); err != nil {
			m.t.Fatal(err)
		}
		b, err := os.ReadFile(p.log)
		if err != nil {
			m.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Deleted returns the lines that tell of a deletion.
func Deleted(lines []string) []string {
	var deleted []string
	for _, l := range lines {
		if strings.Contains(strings.ToLower(l), "deleted") {
			deleted = append(deleted, l)
		}
	}
	return deleted
}
