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
	_, a := there.Endpoint("blue", "watcher")
	watcher := agenttest.Sandbox{NS: agenttest.Netns(string(there.NS) + "-watcher"), Host: there}
	dns := watcher.Resolver(a.Gateway)
	wants := func(what, name string, addrs ...netip.Addr) {
		t.Helper()
		agenttest.Eventually(t, agenttest.Follows, what+": "+name, dns.Wants(agenttest.FQDN(name, "blue"), addrs...))
	}
	reached := func(what string, a netip.Addr, yes bool) {
		t.Helper()
		agenttest.Eventually(t, agenttest.Follows, what, func() error {
			if err := watcher.PingOnce(a); (err == nil) != yes {
				return fmt.Errorf("%s reached: %v", a, err == nil)
			}
			return nil
		})
	}

	web := here.Container("blue", "web", "--hostname", "www-1", "--network-alias", "www", "--network-alias", "site")
	id := here.Must("inspect", "-f", "{{.Id}}", "web")
	for _, name := range []string{"web", "www", "site", "www-1", id[:12]} {
		wants("run", name, web)
	}
	reached("run", web, true)

	here.Must("rename", "web", "shop")
	wants("rename", "shop", web)
	wants("rename", "web")
	wants("rename", "www", web)

	here.Must("restart", "-t", "0", "shop")
	again := here.Addr("blue", "shop")
	wants("restart", "shop", again)
	wants("restart", "site", again)
	reached("restart", again, true)

	here.Must("kill", "shop")
	wants("kill", "shop")
	wants("kill", "www")
	reached("kill", again, false)

	here.Must("start", "shop")
	wants("start", "www", here.Addr("blue", "shop"))
	here.Must("stop", "-t", "0", "shop")
	wants("stop", "www")
	here.Must("start", "shop")
	last := here.Addr("blue", "shop")
	wants("start", "shop", last)
	here.Must("rm", "-f", "shop")
	wants("rm -f", "shop")
	reached("rm -f", last, false)

	// A container that is not on the network when it starts, and one on two.
	green := here.Container("green", "cache")
	here.Must("network", "connect", "--alias", "memory", "blue", "cache")
	blue := here.Addr("blue", "cache")
	wants("connect", "cache", blue)
	wants("connect", "memory", blue)
	reached("connect", blue, true)
	if got := here.Addr("green", "cache"); got != green {
		t.Errorf("connect to another network: the address on green was %s and is %s", green, got)
	}
	here.Must("network", "disconnect", "blue", "cache")
	wants("disconnect", "cache")
	reached("disconnect", blue, false)

	// What a runtime calls unhealthy is not answered while another is well.
	here.Container("blue", "api1", "--network-alias", "api", "--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms", "--health-retries", "1")
	well := here.Container("blue", "api2", "--network-alias", "api")
	agenttest.Eventually(t, 3*time.Second, "an unhealthy one", dns.Wants(agenttest.FQDN("api", "blue"), well))
	here.Must("exec", "api1", "touch", "/tmp/ok")
	agenttest.Eventually(t, 3*time.Second, "both healthy", dns.Wants(agenttest.FQDN("api", "blue"), here.Addr("blue", "api1"), well))
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
