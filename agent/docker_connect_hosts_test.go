package agent_test

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestDockerContainersAreConnectedByAgentctl(t *testing.T) {
	t.Parallel()
	l, docker := dockerHosts(t, 1)
	e := docker[0]
	network(t, l, docker, "blue")
	network(t, l, docker, "red")
	watcher, a := l.Host(1).Endpoint("red", "watcher")
	dns := watcher.Resolver(a.Gateway)
	e.container("blue", "web")
	e.Detached("plain", "--network", "bridge") // on none of ours
	ip := e.free(l, "red", 77)
	e.Host.MustCtl("network", "connect", "red", "web", "--ip", ip, "--alias", "shop")
	e.Host.MustCtl("network", "connect", "red", "plain")
	if got := e.addr("red", "web").String(); got != ip {
		t.Errorf("web has %s on red, want %s", got, ip)
	}
	agenttest.Eventually(t, follows, "the alias", dns.Wants(agenttest.FQDN("shop", "red"), e.addr("red", "web")))
	agenttest.Eventually(t, follows, "a container of the bridge", dns.Wants(agenttest.FQDN("plain", "red"), e.addr("red", "plain")))

	e.Host.MustCtl("network", "disconnect", "red", "web")
	agenttest.Eventually(t, follows, "disconnected", dns.Wants(agenttest.FQDN("shop", "red")))
	if r := e.Host.Ctl("network", "disconnect", "red", "web"); r.Code == 0 || !strings.Contains(r.Stderr, "is not connected to") {
		t.Errorf("disconnected twice: %s", r)
	}
	e.Host.MustCtl("network", "disconnect", "-f", "red", "web")
	if r := e.Host.Ctl("network", "connect", "red", "absent"); r.Code == 0 || !strings.Contains(r.Stderr, "no container absent") {
		t.Errorf("a container that nobody knows: %s", r)
	}
}
