package soak_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// newcomers are faults of a sixth host that would be a member, or takes itself for one.
var newcomers = []fault{
	newcomer("a newcomer that mistyped the address of Consul", func(s *soak) {
		s.refused(s.spare, 1, "192.0.2.254:8501", "init", "--consul", "http://192.0.2.254:8501")
	}),
	newcomer("a newcomer that began alone", func(s *soak) {
		if r := s.spare.Ctl("init"); r.Code != 0 || !strings.Contains(r.Stderr, "hosts of other machines cannot join") {
			s.t.Errorf("%s", r)
		}
		s.refused(s.spare, 5, "", s.joining()...)
		s.does(s.spare, "leave")
	}),
	newcomer("a newcomer whose tunnel port is taken", func(s *soak) {
		conn, err := s.spare.NS.ListenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), 4799))
		s.check(err)
		s.refused(s.spare, 5, fmt.Sprintf("(pid %d)", os.Getpid()), s.joining()...)
		conn.Close()
	}),
	{"a copied data directory", 30 * time.Second, true, copied},
	{"a living host's name is asked for with --replace", 30 * time.Second, true, replaced},
}

// refusals are what a user asks for that cannot be.
var refusals = []fault{
	{"leave --force of a host whose containers run", 60 * time.Second, true, forcedOut},
	{"attach of the fabric", 10 * time.Second, true, func(s *soak, h *agenttest.Host) {
		s.refused(h, 2, string(h.Fabric), "attach", "blue", "--netns", string(h.Fabric), "--name", "x")
	}},
	{"a subnet that overlaps, then the line of the hint", 30 * time.Second, true, func(s *soak, h *agenttest.Host) {
		h.TypeAll(s.t, s.refused(h, 5, "blue", "network", "create", "green", "--subnet", part), map[string]string{"CIDR": "10.72.0.0/24"})
		s.does(h, "network", "rm", "green")
	}},
	{"twenty networks removed in one call", 60 * time.Second, true, removeMany},
}

// refused checks that a command of a host fails in words.
func (s *soak) refused(h *agenttest.Host, code int, says string, args ...string) agenttest.Result {
	s.t.Helper()
	r := h.Ctl(args...)
	agenttest.WantError(s.t, r, code)
	if !strings.Contains(r.Stderr, says) {
		s.t.Errorf("want %q: %s", says, r)
	}
	return r
}

// does is a command that is obeyed within a minute, whatever else happens. A first try
// that gave up may have been obeyed all the same, which the next one says.
func (s *soak) does(h *agenttest.Host, args ...string) {
	s.t.Helper()
	tries := 0
	s.await(time.Minute, h.Name+": "+strings.Join(args, " "), func() error {
		tries++
		r := h.Ctl(args...)
		if r.Code == 0 || tries > 1 && (r.Code == 4 || r.Code == 5 || strings.Contains(r.Stderr, "not a member")) {
			return nil
		}
		return fmt.Errorf("%s", r)
	})
}

// removeMany removes all networks but the one that the load is on.
func removeMany(s *soak, h *agenttest.Host) {
	for i := range 20 {
		s.does(h, "network", "create", fmt.Sprintf("n%d", i))
	}
	s.await(time.Minute, h.Name+": no network is left over", func() error {
		left := strings.Fields(h.Ctl("network", "ls", "--format", "{{.Name}}").Stdout)
		left = slices.DeleteFunc(left, func(name string) bool { return name == "blue" })
		if len(left) == 0 {
			return nil
		}
		return fmt.Errorf("%s", h.Ctl(append([]string{"network", "rm"}, left...)...))
	})
}

func (s *soak) joining() []string {
	return []string{"join", s.hosts[0].Addr.String(), "--token-file", s.hosts[0].TokenFile()}
}

// newcomer is a fault of the sixth host before it joins. Then it takes part, and leaves.
func newcomer(name string, before func(s *soak)) fault {
	return fault{name, time.Minute, true, func(s *soak, h *agenttest.Host) {
		s.spare.Start()
		defer s.dismissSpare()
		before(s)
		s.does(s.spare, s.joining()...)
		sandbox := s.spare.Sandbox("guest")
		defer sandbox.Remove()
		a := s.attach(sandbox, "guest")
		s.note(s.ledger.take(a.Addr(), "guest"))
		s.await(10*time.Second, "the newcomer reaches "+h.Name, func() error { return sandbox.PingOnce(s.canary[h.Name].Addr()) })
		s.ledger.release(a.Addr())
		s.does(s.spare, "leave", "--purge")
	}}
}

// dismissSpare makes the sixth host as it was.
func (s *soak) dismissSpare() {
	s.spare.Stop()
	s.spare.More = nil
	s.check(os.RemoveAll(s.spare.Dir))
}

// copied starts the copy of a running host, as it is on the disk at one moment.
func copied(s *soak, h *agenttest.Host) {
	s.check(syscall.Kill(h.PID(), syscall.SIGSTOP))
	h.Copy(s.spare)
	s.check(syscall.Kill(h.PID(), syscall.SIGCONT))
	defer s.dismissSpare()
	s.spare.Launch()
	if wrote := s.spare.AwaitEnd(); !strings.Contains(wrote, h.Addr.String()) {
		s.t.Errorf("the copy does not name the original: %s", wrote)
	}
}

func replaced(s *soak, h *agenttest.Host) {
	s.spare.More = []string{"--name", h.Name}
	s.spare.Start()
	defer s.dismissSpare()
	s.refused(s.spare, 5, "not dead", append(s.joining(), "--replace")...)
}

// forcedOut asks another member to take a host out whose agent is down.
func forcedOut(s *soak, h *agenttest.Host) {
	other := s.hosts[(slices.Index(s.hosts, h)+1)%members]
	h.Kill()
	s.await(30*time.Second, other.Name+": the agent is down", func() error {
		if m := other.Members()[h.Name]; m.Status == "alive" || m.Status == "suspect" {
			return errors.New(m.Status)
		}
		return nil
	})
	s.refused(other, 5, "canary-"+h.Name, "leave", "--force", h.Name)
	h.Start()
}
