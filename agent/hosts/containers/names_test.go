package containers_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Whatever is done to a container with Docker's commands, its names and its
// addresses are right on the other host a second later.
func TestDockerNamesAndAddressesFollow(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	here, there := docker[0], l.Host(2)
	l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "green")
	s, a := there.Endpoint("blue", "watcher")
	from := watcher{s, s.Resolver(a.Gateway)}
	followLife(t, here, from)
	followConnect(t, here, from)
	followHealth(t, here, from)
}

// watcher is an endpoint on blue, on the other host.
type watcher struct {
	*agenttest.Sandbox
	dns *agenttest.Resolver
}

// wants waits until a name has exactly these addresses.
func (w watcher) wants(t *testing.T, what, name string, addrs ...netip.Addr) {
	t.Helper()
	agenttest.Eventually(t, agenttest.Follows, what+": "+name, w.dns.Wants(agenttest.FQDN(name, "blue"), addrs...))
}

// reached waits until an address is reached, or is not.
func (w watcher) reached(t *testing.T, what string, a netip.Addr, yes bool) {
	t.Helper()
	agenttest.Eventually(t, agenttest.Follows, what, func() error {
		if err := w.PingOnce(a); (err == nil) != yes {
			return fmt.Errorf("%s reached: %v", a, err == nil)
		}
		return nil
	})
}

// followLife takes a container from docker run to docker rm -f.
func followLife(t *testing.T, here *agenttest.Engine, from watcher) {
	web := here.Container("blue", "web", "--hostname", "www-1", "--network-alias", "www", "--network-alias", "site")
	id := here.Must("inspect", "-f", "{{.Id}}", "web")
	for _, name := range []string{"web", "www", "site", "www-1", id[:12]} {
		from.wants(t, "run", name, web)
	}
	from.reached(t, "run", web, true)

	here.Must("rename", "web", "shop")
	from.wants(t, "rename", "shop", web)
	from.wants(t, "rename", "web")
	from.wants(t, "rename", "www", web)

	here.Must("restart", "-t", "0", "shop")
	again := here.Addr("blue", "shop")
	from.wants(t, "restart", "shop", again)
	from.wants(t, "restart", "site", again)
	from.reached(t, "restart", again, true)

	here.Must("kill", "shop")
	from.wants(t, "kill", "shop")
	from.wants(t, "kill", "www")
	from.reached(t, "kill", again, false)

	here.Must("start", "shop")
	from.wants(t, "start", "www", here.Addr("blue", "shop"))
	here.Must("stop", "-t", "0", "shop")
	from.wants(t, "stop", "www")
	here.Must("start", "shop")
	last := here.Addr("blue", "shop")
	from.wants(t, "start", "shop", last)
	here.Must("rm", "-f", "shop")
	from.wants(t, "rm -f", "shop")
	from.reached(t, "rm -f", last, false)
}

// followConnect puts a running container on the network, beside another one, and
// takes it off again.
func followConnect(t *testing.T, here *agenttest.Engine, from watcher) {
	green := here.Container("green", "cache")
	here.Must("network", "connect", "--alias", "memory", "blue", "cache")
	blue := here.Addr("blue", "cache")
	from.wants(t, "connect", "cache", blue)
	from.wants(t, "connect", "memory", blue)
	from.reached(t, "connect", blue, true)
	if got := here.Addr("green", "cache"); got != green {
		t.Errorf("connect to another network: the address on green was %s and is %s", green, got)
	}
	here.Must("network", "disconnect", "blue", "cache")
	from.wants(t, "disconnect", "cache")
	from.reached(t, "disconnect", blue, false)
}

// followHealth has two containers of one alias: what a runtime calls unhealthy is not
// answered while another is well.
func followHealth(t *testing.T, here *agenttest.Engine, from watcher) {
	here.Container("blue", "api1", "--network-alias", "api", "--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms", "--health-retries", "1")
	well := here.Container("blue", "api2", "--network-alias", "api")
	agenttest.Eventually(t, 3*time.Second, "an unhealthy one", from.dns.Wants(agenttest.FQDN("api", "blue"), well))
	here.Must("exec", "api1", "touch", "/tmp/ok")
	agenttest.Eventually(t, 3*time.Second, "both healthy", from.dns.Wants(agenttest.FQDN("api", "blue"), here.Addr("blue", "api1"), well))
}

// A container sees the names of all networks that it is on, whichever of them
// carries its questions; and a link's alias is known to whom it was made for.
func TestDockerContainersSeeTheNamesOfAllTheirNetworks(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	blue := l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "green")
	l.DockerNetwork(docker, "inside", "--internal")
	docker[1].Container("blue", "bb")
	docker[1].Container("green", "gg")
	docker[1].Container("inside", "ii")
	docker[0].Container("blue", "local")
	docker[0].Container("green", "both", "--dns", blue.Gateway().String(), "--link", "local:near")
	docker[0].Must("network", "connect", "blue", "both")
	docker[0].Must("network", "connect", "inside", "both")
	for _, name := range []string{"bb", "gg", "ii", "bb.blue", "gg.green", "local"} {
		agenttest.Eventually(t, 2*agenttest.Follows, "both reaches "+name, func() error {
			if r := docker[0].Docker("exec", "both", "ping", "-c", "1", "-W", "1", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	docker[0].Container("blue", "linked", "--link", "local:near")
	docker[0].Must("exec", "linked", "ping", "-c", "1", "-W", "1", "near")
	if r := docker[1].Docker("exec", "bb", "ping", "-c", "1", "-W", "1", docker[0].Addr("green", "both").String()); r.Code == 0 {
		t.Error("a container on blue reaches an address of green on another host")
	}
}
