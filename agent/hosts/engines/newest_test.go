package engines_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// The newest engine and Debian's on one network. The newest asks for its
// containers from the host, so that names of other hosts need docker setup, and
// it is said that they do; all else is as with the other.
func TestDockerNewestEngineBesideDebians(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2)
	old, newest := l.Host(1).NewEngine(), l.Host(2).NewNewestEngine()
	all := []*agenttest.Engine{old, newest}
	for _, e := range all {
		e.ResolvConf("nameserver " + agenttest.NamedServer.String())
		e.Launch()
	}
	for _, e := range all {
		e.Ready()
	}
	for _, n := range []string{"blue", "green"} {
		l.DockerNetwork(all, n)
	}
	web := old.Container("blue", "web", "--network-alias", "www")
	newest.Container("blue", "app", "--network-alias", "api.v2", "--mac-address", "02:42:0a:40:00:61", "-p", "8080:80", "--restart", "always")

	assertSetUpIsMissed(t, newest)
	newest.Host.MustCtl("docker", "setup", "--file", newest.Dir+"/etc/daemon.json")
	newest.Stop()
	newest.Start()
	agenttest.Eventually(t, 10*time.Second, "the container is back", func() error {
		if got := newest.Must("inspect", "-f", "{{.State.Running}}", "app"); got != "true" {
			return fmt.Errorf("running: %s", got)
		}
		return nil
	})
	app := newest.Addr("blue", "app")
	assertReachedAsOthers(t, newest, old, app, web)
	connectByTheAgent(t, newest, old)
	newest.Must("rename", "app", "desk")
	reach(t, old, "web", app, "desk", "api.v2.blue")
	newest.Must("restart", "-t", "0", "desk")
	reach(t, old, "web", newest.Addr("blue", "desk"), "desk")
	newest.Must("network", "disconnect", "green", "desk")
	doAnything(all, 2, 30)
	newest.Host.MustCtl("docker", "setup", "--undo", "--file", newest.Dir+"/etc/daemon.json")
	assertNothingLeft(t, l, all)
}

// assertSetUpIsMissed checks that without docker setup the newest engine's container
// finds no name, and that it is said why.
func assertSetUpIsMissed(t *testing.T, newest *agenttest.Engine) {
	r := newest.Host.Ctl("docker", "status")
	if !strings.Contains(r.Stdout, "29-moby") || !strings.Contains(r.Stderr, "asks for its containers from the host") {
		t.Errorf("before the set-up: %s", r)
	}
	agenttest.WantError(t, r, 1)
	if r := newest.Docker("exec", "app", "ping", "-c", "1", "-W", "1", "web"); r.Code == 0 {
		t.Errorf("the newest engine needs no set-up any more: %s", r)
	}
}

// assertReachedAsOthers checks names both ways, the world's, and what docker run was
// told: a hardware address and a port.
func assertReachedAsOthers(t *testing.T, newest, old *agenttest.Engine, app, web netip.Addr) {
	reach(t, newest, "app", web, "web", "www", "web.blue", "web.blue.weft.internal")
	reach(t, old, "web", app, "app", "api.v2.blue", "app.blue", "app.blue.weft.internal")
	if out := newest.Must("exec", "app", "nslookup", "outside.test"); !strings.Contains(out, agenttest.ByNamed.String()) {
		t.Errorf("the world: %s", out)
	}
	if mac := newest.Must("exec", "app", "cat", "/sys/class/net/eth0/address"); mac != "02:42:0a:40:00:61" {
		t.Errorf("--mac-address gave %s", mac)
	}
	newest.Sandbox("app").NS.Mirror(t)
	if from, err := old.Host.NS.Seen("tcp", netip.AddrPortFrom(newest.Host.Addr, 8080)); err != nil || from != old.Host.Addr.String() {
		t.Errorf("the published port: seen as %q, %v", from, err)
	}
}

// connectByTheAgent puts app on one more network, with what only newer engines take
// there.
func connectByTheAgent(t *testing.T, newest, old *agenttest.Engine) {
	newest.Host.MustCtl("network", "connect", "green", "app", "--alias", "shop", "--mac", "02:42:0a:40:00:62")
	if mac := newest.Must("exec", "app", "cat", "/sys/class/net/eth1/address"); mac != "02:42:0a:40:00:62" {
		t.Errorf("--mac gave %s", mac)
	}
	old.Container("green", "till")
	reach(t, old, "till", newest.Addr("green", "app"), "app", "shop")
}

// reach waits until a container reaches another by all of its names.
func reach(t *testing.T, from *agenttest.Engine, container string, to netip.Addr, names ...string) {
	t.Helper()
	for _, name := range names {
		agenttest.Eventually(t, 2*agenttest.Follows, container+" reaches "+name, func() error {
			r := from.Docker("exec", container, "ping", "-c", "1", "-W", "1", name)
			if r.Code != 0 || !strings.Contains(r.Stdout, "("+to.String()+")") {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
}
