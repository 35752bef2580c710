package containers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Containers without a network of ours: on the host's, on another container's,
// and on none, until somebody attaches the process.
func TestDockerContainersWithoutANetworkOfTheirOwn(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2)
	e := l.Host(1).NewEngine()
	e.ResolvConf("nameserver " + agenttest.NamedServer.String())
	e.Start()
	h := e.Host
	l.DockerNetwork([]*agenttest.Engine{e}, "blue")
	web := e.Container("blue", "web")
	s, a := l.Host(2).Endpoint("blue", "watcher")
	from := watcher{s, s.Resolver(a.Gateway)}
	blue := l.Host(1).Network("blue")
	before := len(h.Endpoints())

	t.Run("host", func(t *testing.T) {
		out := e.Must("run", "--rm", "--net=host", agenttest.Image, "ip", "-4", "-o", "address")
		if !strings.Contains(out, h.Addr.String()+"/24") || !strings.Contains(out, blue.Gateway().String()) {
			t.Errorf("not the host's network:\n%s", out)
		}
		if got := len(h.Endpoints()); got != before {
			t.Errorf("%d endpoints, %d before", got, before)
		}
	})
	t.Run("container", func(t *testing.T) {
		e.Detached("side", "--net=container:web")
		if out := e.Must("exec", "side", "ip", "-4", "-o", "address", "show", "dev", "eth0"); !strings.Contains(out, web.String()+"/") {
			t.Errorf("not the address of web, %s: %s", web, out)
		}
		e.Must("exec", "side", "ping", "-c", "1", "-W", "2", "watcher")
		if got := len(h.Endpoints()); got != before {
			t.Errorf("%d endpoints, %d before", got, before)
		}
		e.Must("rm", "-f", "side")
		if err := from.dns.Wants(agenttest.FQDN("web", "blue"), web)(); err != nil {
			t.Errorf("web, when side is gone: %v", err)
		}
		if err := from.PingOnce(web); err != nil {
			t.Error(err)
		}
	})
	t.Run("none", func(t *testing.T) { attachAProcess(t, e, from) })
}

// attachAProcess attaches a container without a network by its process: it gets names
// and an address, which go with it and leave nothing.
func attachAProcess(t *testing.T, e *agenttest.Engine, from watcher) {
	e.Detached("job", "--net=none")
	var made agenttest.Attachment
	e.Host.CtlJSON(&made, "attach", "blue", "--pid", e.Must("inspect", "-f", "{{.State.Pid}}", "job"), "--name", "job", "--alias", "task", "-o", "json")
	for _, name := range []string{"job", "task"} {
		agenttest.Eventually(t, agenttest.Follows, name, from.dns.Wants(agenttest.FQDN(name, "blue"), made.Addr()))
	}
	if err := from.PingOnce(made.Addr()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"watcher", "watcher.blue", "web"} {
		e.Must("exec", "job", "ping", "-c", "1", "-W", "2", name)
	}
	e.Must("rm", "-f", "job")
	took := agenttest.Eventually(t, 2*time.Second, "gone with its container", from.dns.Wants(agenttest.FQDN("job", "blue")))
	t.Logf("the endpoint is gone %v after its container", took)
	agenttest.Eventually(t, 2*time.Second, "its address is free", func() error {
		if _, there := e.Host.Endpoints()["job"]; there {
			return fmt.Errorf("job is still there")
		}
		return nil
	})
	// Nothing is left of it: the next one may have everything.
	e.Detached("job", "--net=none")
	again := strings.TrimSpace(e.Must("inspect", "-f", "{{.State.Pid}}", "job"))
	e.Host.MustCtl("attach", "blue", "--pid", again, "--name", "job", "--ip", made.Addr().String())
	e.Host.MustCtl("detach", "blue", "job")
	if out := e.Must("exec", "job", "ip", "-o", "link"); strings.Contains(out, "eth0") {
		t.Errorf("detached: %s", out)
	}
	e.Must("rm", "-f", "job")
}
