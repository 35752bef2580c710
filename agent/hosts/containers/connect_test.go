package containers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Docker's containers are put on a network and taken off by agentctl, too.
func TestDockerContainersAreConnectedByAgentctl(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 1)
	e := docker[0]
	l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "red")
	watcher, a := l.Host(1).Endpoint("red", "watcher")
	dns := watcher.Resolver(a.Gateway)
	e.Container("blue", "web")
	e.Detached("plain", "--network", "bridge") // on none of ours
	ip := l.Host(1).Network("red").Number(77).String()
	r := e.Host.Ctl("network", "connect", "red", "web", "--ip", ip, "--alias", "shop", "--alias", "shop.prod", "--format", "{{.Name}}")
	if r.Code != 0 || strings.TrimSpace(r.Stdout) != "web" {
		t.Fatalf("want the container's name: %s", r)
	}
	assertConnectRefused(t, e, ip)
	e.Host.MustCtl("network", "connect", "red", "plain")
	if got := e.Addr("red", "web").String(); got != ip {
		t.Errorf("web has %s on red, want %s", got, ip)
	}
	agenttest.Eventually(t, agenttest.Follows, "the alias", dns.Wants(agenttest.FQDN("shop", "red"), e.Addr("red", "web")))
	agenttest.Eventually(t, agenttest.Follows, "an alias with a dot", dns.Wants(agenttest.FQDN("shop.prod", "red"), e.Addr("red", "web")))
	agenttest.Eventually(t, agenttest.Follows, "a container of the bridge", dns.Wants(agenttest.FQDN("plain", "red"), e.Addr("red", "plain")))

	e.Host.MustCtl("network", "disconnect", "red", "web")
	agenttest.Eventually(t, agenttest.Follows, "disconnected", dns.Wants(agenttest.FQDN("shop", "red")))
	if r := e.Host.Ctl("network", "disconnect", "red", "web"); r.Code != 4 || !strings.Contains(r.Stderr, "web is not on that network") {
		t.Errorf("disconnected twice: %s", r)
	}
	e.Host.MustCtl("network", "disconnect", "-f", "red", "web")

	l.DockerNetwork(docker, "same", "--subnet", "10.94.0.0/24")
	connectToTheSecond(t, e)
	connectWhatCannotBe(t, e)
}

// assertConnectRefused asks for what cannot be where web is on red, at ip, and plain
// is not.
func assertConnectRefused(t *testing.T, e *agenttest.Engine, ip string) {
	for _, row := range []struct {
		line  string
		code  int
		wants string
	}{
		{"red plain --alias a/b", 2, `alias "a/b" is no DNS name`},
		{"red plain --ip 10.1.2.3", 2, "10.1.2.3"},
		{"red plain --ip " + ip, 5, "web on h1"},
		{"red plain --mac 01:00:5e:00:00:01", 2, "no unicast hardware address"},
		{"red plain --mac 02:42:00:00:00:01", 2, "version 25 is the first"},
		{"red web", 5, "web is on it already"},
		{"nowhere web", 4, "no network nowhere"},
	} {
		r := e.Host.Ctl(append([]string{"network", "connect"}, strings.Fields(row.line)...)...)
		agenttest.WantError(t, r, row.code)
		if !strings.Contains(r.Stderr, row.wants) {
			t.Errorf("network connect %s: want %q:\n%s", row.line, row.wants, r)
		}
	}
}

// connectToTheSecond makes a second Docker network for same: it is as good as the
// first.
func connectToTheSecond(t *testing.T, e *agenttest.Engine) {
	e.Must("network", "create", "-d", "weft", "--ipam-driver", "weft", "--ipam-opt", "network=same", "--subnet", "10.94.0.0/24", "mine")
	agenttest.Eventually(t, 5*time.Second, "both are known", func() error {
		if r := e.Host.Ctl("network", "connect", "same", "web"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if out := e.Must("network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "same"); out != "web" {
		t.Errorf("connected to Docker's network of that name is %q", out)
	}
	e.Host.MustCtl("network", "disconnect", "same", "web")
	e.Must("network", "connect", "mine", "web")
	r := e.Host.Ctl("network", "connect", "same", "web")
	agenttest.WantError(t, r, 5)
	e.Host.MustCtl("network", "disconnect", "same", "web")
	if out := e.Must("network", "inspect", "-f", "{{len .Containers}}", "mine"); out != "0" {
		t.Errorf("disconnected: %s containers are left", out)
	}
}

// connectWhatCannotBe names a container without a network, and one that nobody knows.
func connectWhatCannotBe(t *testing.T, e *agenttest.Engine) {
	e.Must("run", "-d", "--name", "job", "--network", "none", agenttest.Image, "sleep", "1000")
	r := e.Host.Ctl("network", "connect", "red", "job")
	agenttest.WantError(t, r, 5)
	if !strings.Contains(r.Stderr, "attach NETWORK --pid $(docker inspect") {
		t.Errorf("a container without a network: %s", r)
	}
	if r := e.Host.Ctl("network", "connect", "red", "absent"); r.Code != 4 || !strings.Contains(r.Stderr, "no container absent") {
		t.Errorf("a container that nobody knows: %s", r)
	}
}
