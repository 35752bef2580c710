package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) { agenttest.Main(m) }

// service is agentd as a service manager starts it.
type service struct {
	*exec.Cmd
	log  string
	done chan error
}

func startService(t *testing.T, dir string, env []string, args ...string) *service {
	t.Helper()
	out, err := os.Create(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := &service{Cmd: exec.Command(args[0], args[1:]...), log: out.Name(), done: make(chan error, 1)}
	s.Stdout, s.Stderr = out, out
	s.Env = append(append(os.Environ(), env...), "JOURNAL_STREAM="+journalStream(t, out))
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("log:\n%s", b)
		}
		s.Process.Kill()
		select {
		case <-s.done:
		case <-time.After(10 * time.Second):
			t.Error("the service does not end")
		}
	})
	return s
}

func (s *service) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.done:
		s.done <- err
		if err != nil {
			t.Errorf("ended by %v: %v", sig, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("still running 20 s after %v", sig)
	}
}

func TestServiceManagerIsToldHowTheAgentFares(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	n := newNotified(t, l.Dir)
	s := startService(t, l.Dir, []string{"NOTIFY_SOCKET=" + n.path, "WATCHDOG_USEC=1500000"}, h.Agentd(h.Flags()...)...)
	n.await(t, 10*time.Second, "ready", func() bool { return n.count("READY=1") == 1 })
	if n.count("STATUS=not-a-member: ") != 1 {
		t.Errorf("no status line of a host that is no member: %q", n.lines())
	}
	h.MustCtl("init")
	n.await(t, 10*time.Second, "status of a member", func() bool { return n.count("STATUS=ok: 1 of 1 members alive") > 0 })

	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	n.await(t, 5*time.Second, "reloaded", func() bool { return n.count("READY=1") == 2 })
	if n.count("RELOADING=1") != 1 || n.count("MONOTONIC_USEC=") != 1 {
		t.Errorf("reload without its beginning: %q", n.lines())
	}

	pings := n.count("WATCHDOG=1")
	n.await(t, 10*time.Second, "the watchdog's pings", func() bool { return n.count("WATCHDOG=1") >= pings+3 })
	s.end(t, syscall.SIGTERM)
	n.await(t, 5*time.Second, "stopping", func() bool { return n.count("STOPPING=1") == 1 })

	b, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "<") {
			t.Errorf("a line of the journal without priority: %q", line)
		}
	}
}

func TestSocketsOfTheServiceManagerAreServed(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "systemd-socket-activate")
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	n := newNotified(t, l.Dir)
	for _, d := range []string{"run", "data"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	docker, other := filepath.Join(l.Dir, "docker.sock"), filepath.Join(l.Dir, "other.sock")
	line := append([]string{"systemd-socket-activate", "-l", h.Socket(), "-l", docker, "-l", other, "--fdname=api:docker:other",
		"-E", "NOTIFY_SOCKET=" + n.path}, h.Agentd(h.Flags()...)...)
	s := startService(t, l.Dir, nil, line...)
	// The first caller starts the agent, and waits for it.
	agenttest.Eventually(t, 10*time.Second, "the API", func() error {
		if r := h.Ctl("status"); r.Code != 1 || !strings.Contains(r.Stdout, "not-a-member") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	n.await(t, 10*time.Second, "ready", func() bool { return n.count("READY=1") == 1 })
	h.MustCtl("init")

	// Docker is kept waiting in the queue; who has no name is refused.
	c, err := net.Dial("unix", docker)
	if err != nil {
		t.Errorf("docker: %v", err)
	} else {
		c.Close()
	}
	if c, err := net.Dial("unix", other); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a socket that nobody serves: %v, want %v", err, syscall.ECONNREFUSED)
		if err == nil {
			c.Close()
		}
	}
	s.end(t, syscall.SIGTERM)
	// They are the service manager's, which goes on listening.
	for _, path := range []string{h.Socket(), docker} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the agent removed a socket that it did not make: %v", err)
		}
	}
}
