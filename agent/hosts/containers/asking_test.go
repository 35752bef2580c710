package containers_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Containers get the names of other hosts from Docker's own resolver, without a
// flag, whatever the host's resolver is; behind a stub resolver once Docker was
// told of the agent.
func TestDockerContainersGetNamesWithoutAFlag(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2)
	var docker []*agenttest.Engine
	for _, h := range l.Hosts {
		docker = append(docker, h.NewEngine())
	}
	docker[0].Launch()
	docker[0].Ready()
	docker[1].Launch()
	docker[1].Ready()
	l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "inner", "--internal")
	web := docker[0].Container("blue", "web", "--network-alias", "www")
	vault := docker[0].Container("inner", "vault")
	e := docker[1]
	for _, tt := range []struct{ name, conf string }{
		{"an ordinary resolver", "nameserver 198.51.100.1"},
		{"no resolver", ""},
		{"a search domain", "nameserver 198.51.100.1\nsearch corp.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e.ResolvConf(tt.conf)
			assertNames(t, e, web, vault)
			if tt.conf != "" {
				out := e.Must("run", "--rm", "--network", "blue", agenttest.Image, "nslookup", "outside.test")
				if !strings.Contains(out, agenttest.ByNamed.String()) {
					t.Errorf("the world: %s", out)
				}
			}
		})
	}
	t.Run("a server of the container's own", func(t *testing.T) { askAServerOfItsOwn(t, e) })
	t.Run("a stub resolver, set up", func(t *testing.T) { setUpBehindAStub(t, e, web, vault) })
	t.Run("leaving", func(t *testing.T) { leaveASetUp(t, e, web, vault) })
}

// assertNames checks that containers on an engine find those of another host, and
// that an internal network is soon refused a name from elsewhere.
func assertNames(t *testing.T, e *agenttest.Engine, web, vault netip.Addr) {
	t.Helper()
	for _, name := range []string{"web", "www", "web.blue", "web.blue.weft.internal"} {
		out := e.Must("run", "--rm", "--network", "blue", agenttest.Image, "ping", "-c", "1", "-W", "2", name)
		if !strings.Contains(out, web.String()) {
			t.Errorf("ping %s: %s", name, out)
		}
	}
	out := e.Must("run", "--rm", "--network", "inner", agenttest.Image, "ping", "-c", "1", "-W", "2", "vault")
	if !strings.Contains(out, vault.String()) {
		t.Errorf("internal: %s", out)
	}
	start := time.Now()
	e.Must("run", "--rm", "--network", "inner", agenttest.Image, "true")
	run := time.Since(start)
	if r := e.Docker("run", "--rm", "--network", "inner", agenttest.Image, "nslookup", "outside.test"); r.Code == 0 {
		t.Errorf("a name from elsewhere in an internal network: %s", r)
	}
	if took := time.Since(start) - 2*run; took > 4*time.Second {
		t.Errorf("a name from elsewhere is denied after %v", took)
	}
}

// askAServerOfItsOwn runs a container that was given another DNS server.
func askAServerOfItsOwn(t *testing.T, e *agenttest.Engine) {
	e.Detached("own", "--network", "blue", "--dns", "203.0.113.9")
	agenttest.Eventually(t, 5*time.Second, "names in a container with --dns", func() error {
		if r := e.Docker("exec", "own", "ping", "-c", "1", "-W", "2", "web"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	e.Must("rm", "-f", "own")
}

// setUpBehindAStub tells Docker of the agent on a host whose resolver no container
// can reach.
func setUpBehindAStub(t *testing.T, e *agenttest.Engine, web, vault netip.Addr) {
	e.ResolvConf("nameserver 127.0.0.53")
	file := e.Dir + "/etc/daemon.json"
	e.Host.MustCtl("docker", "setup", "--file", file)
	e.Stop()
	e.Start()
	assertNames(t, e, web, vault)
	out := e.Must("run", "--rm", agenttest.Image, "nslookup", "outside.test")
	if !strings.Contains(out, agenttest.ByNamed.String()) {
		t.Errorf("on Docker's own bridge: %s", out)
	}
	// Docker takes the default route from the first network by name, and
	// its resolver asks through there.
	e.Must("network", "create", "aaa")
	e.Detached("both", "--network", "aaa")
	e.Must("network", "connect", "blue", "both")
	agenttest.Eventually(t, 5*time.Second, "names through another network", func() error {
		if r := e.Docker("exec", "both", "ping", "-c", "1", "-W", "2", "web"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// leaveASetUp takes the host out of the cluster: it is said that Docker still asks
// the agent, and how that is undone.
func leaveASetUp(t *testing.T, e *agenttest.Engine, web, vault netip.Addr) {
	e.Must(append([]string{"rm", "-f"}, strings.Fields(e.Must("ps", "-aq"))...)...)
	undo := "docker setup --undo --file " + e.Dir + "/etc/daemon.json"
	r := e.Host.Ctl("leave")
	if agenttest.WantError(t, r, 5); !strings.Contains(r.Stderr, undo) {
		t.Errorf("no %q in %s", undo, r)
	}
	assertNames(t, e, web, vault)
	e.Host.MustCtl("leave", "--purge")
	r = e.Host.Ctl("status")
	if r.Code != 1 || !strings.Contains(r.Stdout, "where nobody answers") || !strings.Contains(r.Stderr, undo) {
		t.Errorf("after leave --purge: %s", r)
	}
	e.Host.MustCtl(strings.Fields(undo)...)
	if r := e.Host.Ctl("status"); strings.Contains(r.Stdout, "docker-dns") {
		t.Errorf("after it was undone: %s", r)
	}
}
