package engines_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// An engine that is away and comes back is followed again, with what the
// cluster did meanwhile; its containers, which live on, lose nothing.
func TestDockerEngineGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2, "--live-restore")
	e := docker[0]
	l.DockerNetwork(docker, "blue")
	web := e.Container("blue", "web")
	watcher, a := l.Host(2).Endpoint("blue", "watcher")
	dns := watcher.Resolver(a.Gateway)
	known := dns.Wants(agenttest.FQDN("web", "blue"), web)

	stopEngine(t, e, known)
	l.Host(2).MustCtl("network", "create", "meanwhile")
	startEngineAgain(t, e)
	hangEngine(t, e, known)

	e.Must("rename", "web", "shop")
	agenttest.Eventually(t, 2*agenttest.Follows, "renamed", dns.Wants(agenttest.FQDN("shop", "blue"), web))
	if err := watcher.PingOnce(web); err != nil {
		t.Error(err)
	}
}

// stopEngine ends the engine: it is said, what needs it is refused, and what it knew
// stays.
func stopEngine(t *testing.T, e *agenttest.Engine, known func() error) {
	h := e.Host
	entries := h.Entries(t)
	e.Stop()
	agenttest.Eventually(t, 3*time.Second, "status without an engine", func() error {
		if r := h.Ctl("status"); r.Code != 0 || !strings.Contains(r.Stdout, "no engine answers: its 1 endpoints here are as last seen") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	for line, code := range map[string]int{"network connect blue web": 1, "network disconnect blue web": 1, "leave": 5} {
		r := h.Ctl(strings.Fields(line)...)
		agenttest.WantError(t, r, code)
		if !strings.Contains(r.Stderr, "Docker") || !strings.Contains(r.Stderr, "hint: systemctl start docker") {
			t.Errorf("the engine is away: %s", r)
		}
	}
	if diff := agenttest.Diff(entries, h.Entries(t)); diff != "" {
		t.Errorf("the engine is away:\n%s", diff)
	}
	if err := known(); err != nil {
		t.Errorf("the engine is away: %v", err)
	}
}

// startEngineAgain starts the engine: it is followed again, with the network that was
// made meanwhile.
func startEngineAgain(t *testing.T, e *agenttest.Engine) {
	back := time.Now()
	e.Start("--live-restore")
	agenttest.Eventually(t, 5*time.Second, "status with the engine", func() error {
		if r := e.Host.Ctl("status"); r.Code != 0 || !strings.Contains(r.Stdout, "engine 20.10") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	e.AwaitNetwork("meanwhile")
	t.Logf("followed again %v after the engine was started", time.Since(back))
	e.Must("run", "--rm", "--network", "meanwhile", agenttest.Image, "true")
}

// hangEngine stops the engine's process, which keeps its connections, for a while.
func hangEngine(t *testing.T, e *agenttest.Engine, known func() error) {
	h := e.Host
	pid := strings.TrimSpace(e.File("pid"))
	h.NS.Must(t, "kill", "-STOP", pid)
	resume := func() { h.NS.Run("kill", "-CONT", pid) }
	t.Cleanup(resume)
	agenttest.Eventually(t, 10*time.Second, "status with an engine that hangs", func() error {
		if r := h.Ctl("status"); r.Code != 1 || !strings.Contains(r.Stdout, "the engine does not answer") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	agenttest.WantError(t, h.Ctl("network", "connect", "meanwhile", "web"), 1)
	if err := known(); err != nil {
		t.Errorf("the engine hangs: %v", err)
	}
	resume()
	agenttest.Eventually(t, 10*time.Second, "it answers again", func() error {
		if r := h.Ctl("status"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
