package containers_test

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestDockerAddressesAreAsAskedFor(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	l.Host(1).MustCtl("network", "create", "blue", "--subnet", "10.91.0.0/24")
	for _, e := range docker {
		e.AwaitNetwork("blue")
	}
	e := docker[0]
	if a := e.Container("blue", "fixed", "--ip", "10.91.0.77", "--mac-address", "02:42:0a:5b:00:4d"); a.String() != "10.91.0.77" {
		t.Errorf("--ip gave %v", a)
	}
	if mac := e.Must("exec", "fixed", "cat", "/sys/class/net/eth0/address"); mac != "02:42:0a:5b:00:4d" {
		t.Errorf("--mac-address gave %s", mac)
	}
	docker[1].Must("run", "--rm", "--network", "blue", agenttest.Image, "ping", "-c", "1", "-W", "2", "10.91.0.77")
	e.Must("restart", "-t", "0", "fixed")
	if a := e.Addr("blue", "fixed"); a.String() != "10.91.0.77" {
		t.Errorf("after a restart --ip is %v", a)
	}
	for _, c := range []struct{ what, ip, want string }{
		{"taken here", "10.91.0.77", "10.91.0.77"},
		{"the gateway", "10.91.0.1", "10.91.0.1"},
		{"the subnet's own", "10.91.0.0", "10.91.0.0"},
	} {
		for _, on := range docker {
			r := on.Docker("run", "--rm", "--network", "blue", "--ip", c.ip, agenttest.Image, "true")
			if r.Code == 0 || !strings.Contains(r.Stderr, c.want) || !strings.Contains(r.Stderr, "hint") {
				t.Errorf("%s, on %s: want a refusal with a hint:\n%s", c.what, on.Host.Name, r)
			}
		}
	}
	if r := e.Docker("run", "--rm", "--network", "blue", "--ip", "10.92.0.9", agenttest.Image, "true"); r.Code == 0 {
		t.Errorf("an address outside: %s", r)
	}
	e.Must("rm", "-f", "fixed")
	docker[1].Must("run", "--rm", "--network", "blue", "--ip", "10.91.0.77", agenttest.Image, "true")
	if a := docker[1].Container("blue", "mover", "--ip", "10.91.0.77"); a.String() != "10.91.0.77" {
		t.Errorf("on the other host: %v", a)
	}
	r := l.Host(2).Ctl("detach", "blue", "mover")
	if r.Code != 5 || !strings.Contains(r.Stderr, "docker network disconnect blue mover") {
		t.Errorf("detach of Docker's container: %s", r)
	}
}
