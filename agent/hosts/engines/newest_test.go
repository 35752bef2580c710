package engines_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
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

	r := newest.Host.Ctl("docker", "status")
	if !strings.Contains(r.Stdout, "29-moby") || !strings.Contains(r.Stderr, "asks for its containers from the host") {
		t.Errorf("before the set-up: %s", r)
	}
	agenttest.WantError(t, r, 1)
	if r := newest.Docker("exec", "app", "ping", "-c", "1", "-W", "1", "web"); r.Code == 0 {
		t.Errorf("the newest engine needs no set-up any more: %s", r)
	}
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

	reach := func(from *agenttest.Engine, container string, to netip.Addr, names ...string) {
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
	reach(newest, "app", web, "web", "www", "web.blue", "web.blue.weft.internal")
	reach(old, "web", app, "app", "api.v2.blue", "app.blue", "app.blue.weft.internal")
	if out := newest.Must("exec", "app", "nslookup", "outside.test"); !strings.Contains(out, agenttest.ByNamed.String()) {
		t.Errorf("the world: %s", out)
	}
	if mac := newest.Must("exec", "app", "cat", "/sys/class/net/eth0/address"); mac != "02:42:0a:40:00:61" {
		t.Errorf("--mac-address gave %s", mac)
	}
	newest.Sandbox("app").NS.Mirror(t)
	if from, err := l.Host(1).NS.Seen("tcp", netip.AddrPortFrom(newest.Host.Addr, 8080)); err != nil || from != l.Host(1).Addr.String() {
		t.Errorf("the published port: seen as %q, %v", from, err)
	}

	// By the agent, on one more network, with what only newer engines take there.
	newest.Host.MustCtl("network", "connect", "green", "app", "--alias", "shop", "--mac", "02:42:0a:40:00:62")
	if mac := newest.Must("exec", "app", "cat", "/sys/class/net/eth1/address"); mac != "02:42:0a:40:00:62" {
		t.Errorf("--mac gave %s", mac)
	}
	old.Container("green", "till")
	reach(old, "till", newest.Addr("green", "app"), "app", "shop")
	newest.Must("rename", "app", "desk")
	reach(old, "web", app, "desk", "api.v2.blue")
	newest.Must("restart", "-t", "0", "desk")
	reach(old, "web", newest.Addr("blue", "desk"), "desk")
	newest.Must("network", "disconnect", "green", "desk")

	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for range 30 {
				anything(e, r)
			}
		})
	}
	wg.Wait()
	newest.Host.MustCtl("docker", "setup", "--undo", "--file", newest.Dir+"/etc/daemon.json")
	assertNothingLeft(t, l, all)
}
