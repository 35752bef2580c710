package hosts_test

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

// Many containers at once on every host: each gets an address of its own, and
// when they are gone nothing is left of them.
func TestDockerManyContainersAtOnce(t *testing.T) {
	t.Parallel()
	const each = 50
	l, docker := dockerHosts(t, 2)
	network(t, l, docker, "blue")
	start := time.Now()
	var wg sync.WaitGroup
	for _, e := range docker {
		for w := range 10 {
			wg.Go(func() {
				for i := range each / 10 {
					name := fmt.Sprintf("%s-%d-%d", e.Host.Name, w, i)
					if r := e.Docker("run", "-d", "--name", name, "--network", "blue", agenttest.Image, "sleep", "1000"); r.Code != 0 {
						t.Errorf("%s", r)
					}
				}
			})
		}
	}
	wg.Wait()
	t.Logf("%d containers in %v", 2*each, time.Since(start))
	seen := map[netip.Addr]string{}
	for _, e := range docker {
		for name, a := range e.addrs("blue") {
			if other := seen[a]; other != "" {
				t.Errorf("%s has %v, as %s has", name, a, other)
			}
			seen[a] = name
		}
	}
	if len(seen) != 2*each {
		t.Errorf("%d addresses, want %d", len(seen), 2*each)
	}
	var other netip.Addr
	for a, name := range seen {
		if strings.HasPrefix(name, "h1") {
			other = a
		}
	}
	docker[1].Must("run", "--rm", "--network", "blue", agenttest.Image, "ping", "-c", "1", "-W", "2", other.String())
	assertNothingLeft(t, l, docker)
}

// addrs are the addresses of an engine's containers on a network, by name.
func (e engine) addrs(network string) map[string]netip.Addr {
	e.t.Helper()
	out := map[string]netip.Addr{}
	for _, c := range e.inspect(network).Containers {
		p, err := netip.ParsePrefix(c.IPv4Address)
		if err != nil {
			e.t.Errorf("%s: %s: %v", e.Host.Name, c.Name, err)
		}
		out[c.Name] = p.Addr()
	}
	return out
}

// assertNothingLeft removes every container and checks that no endpoint, no
// interface and, when the host leaves the cluster, no Docker network is left.
func assertNothingLeft(t *testing.T, l *agenttest.Lab, docker []engine) {
	t.Helper()
	for _, e := range docker {
		if ids := strings.Fields(e.Must("ps", "-aq")); len(ids) > 0 {
			e.Must(append([]string{"rm", "-f"}, ids...)...)
		}
	}
	for _, e := range docker {
		agenttest.Eventually(t, 3*time.Second, e.Host.Name+": endpoints are gone", func() error {
			if out := e.Host.MustCtl("endpoint", "ls", "-o", "jsonl"); strings.TrimSpace(out) != "" {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		for _, ns := range []agenttest.Netns{e.Host.NS, e.Host.Fabric} {
			agenttest.Eventually(t, 3*time.Second, string(ns)+": interfaces are gone", func() error {
				for line := range strings.Lines(ns.Must(t, "ip", "-o", "link")) {
					if name := strings.Fields(line)[1]; name[0] == 'w' || name[0] == 'k' {
						return fmt.Errorf("%s", line)
					}
				}
				return nil
			})
		}
	}
	for i := len(docker) - 1; i >= 0; i-- {
		e := docker[i]
		e.Host.MustCtl("leave")
		if out := e.Must("network", "ls", "--filter", "driver=weft", "-q"); out != "" {
			e.assertMiscounted(out)
		}
		if out := e.Host.NS.Must(t, "ip", "-d", "link") + e.Host.NS.Must(t, "nft", "list", "tables"); strings.Contains(out, "weft") {
			t.Errorf("%s: after leave:\n%s", e.Host.Name, out)
		}
		if r := e.Docker("network", "create", "-d", "weft", "--ipam-driver", "weft", "--ipam-opt", "network=blue", "late"); !strings.Contains(r.Stderr, "agentctl join") {
			t.Errorf("%s: no member any more: want a hint at join:\n%s", e.Host.Name, r)
		}
	}
}

// assertMiscounted checks that a network is left only because Docker counts an
// endpoint that it does not have, as it does now and then when many containers
// start at once, on its own bridges too. Its next start counts anew.
func (e engine) assertMiscounted(network string) {
	e.t.Helper()
	e.t.Logf("%s: Docker miscounts the endpoints of %s", e.Host.Name, network)
	if left := e.inspect(network).Containers; len(left) > 0 {
		e.t.Errorf("%s: containers after leave: %v", e.Host.Name, left)
	}
	if r := e.Docker("network", "rm", network); r.Code != 0 && !strings.Contains(r.Stderr, "active endpoints") {
		e.t.Errorf("%s", r)
	}
	e.Stop()
	e.Start()
	if r := e.Docker("network", "rm", network); r.Code != 0 && !strings.Contains(r.Stderr, "No such network") {
		e.t.Errorf("%s", r)
	}
}

func TestDockerAddressesAreAsAskedFor(t *testing.T) {
	t.Parallel()
	l, docker := dockerHosts(t, 2)
	l.Host(1).MustCtl("network", "create", "blue", "--subnet", "10.91.0.0/24")
	for _, e := range docker {
		e.awaitNetwork("blue")
	}
	e := docker[0]
	if a := e.container("blue", "fixed", "--ip", "10.91.0.77", "--mac-address", "02:42:0a:5b:00:4d"); a.String() != "10.91.0.77" {
		t.Errorf("--ip gave %v", a)
	}
	if mac := e.Must("exec", "fixed", "cat", "/sys/class/net/eth0/address"); mac != "02:42:0a:5b:00:4d" {
		t.Errorf("--mac-address gave %s", mac)
	}
	docker[1].Must("run", "--rm", "--network", "blue", agenttest.Image, "ping", "-c", "1", "-W", "2", "10.91.0.77")
	e.Must("restart", "-t", "0", "fixed")
	if a := e.addr("blue", "fixed"); a.String() != "10.91.0.77" {
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
	if a := docker[1].container("blue", "mover", "--ip", "10.91.0.77"); a.String() != "10.91.0.77" {
		t.Errorf("on the other host: %v", a)
	}
	r := l.Host(2).Ctl("detach", "blue", "mover")
	if r.Code != 5 || !strings.Contains(r.Stderr, "docker network disconnect blue mover") {
		t.Errorf("detach of Docker's container: %s", r)
	}
}

// Whatever is done in whatever order, in the end there is nothing more than
// Docker says there is.
func TestDockerRandomOperationsLeaveNothing(t *testing.T) {
	t.Parallel()
	const operations = 200
	l, docker := dockerHosts(t, 2)
	for _, n := range []string{"blue", "green"} {
		network(t, l, docker, n)
	}
	var wg sync.WaitGroup
	for i, e := range docker {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range operations / len(docker) {
				e.anything(r)
			}
		})
	}
	wg.Wait()
	for _, n := range []string{"blue", "green"} {
		agenttest.Eventually(t, 15*time.Second, "the endpoints on "+n+" are Docker's", func() error {
			all := parseInspection(t, l.Host(1).MustCtl("network", "inspect", n, "-o", "json"))
			for _, e := range docker {
				if got, want := all.endpoints(e.Host.Name), e.inspect(n).endpoints(""); got != want {
					return fmt.Errorf("%s: agentctl says\n%s\nDocker\n%s", e.Host.Name, got, want)
				}
			}
			return nil
		})
	}
	assertNothingLeft(t, l, docker)
}

// anything does one thing to one of a few containers. Most of it makes sense
// only in some states, and fails in the others.
func (e engine) anything(r *rand.Rand) {
	name := fmt.Sprintf("box%d", r.IntN(4))
	net := []string{"blue", "green"}[r.IntN(2)]
	switch r.IntN(10) {
	case 0, 1, 2:
		e.Docker("run", "-d", "--name", name, "--network", net, "--network-alias", "a"+name, agenttest.Image, "sleep", "1000")
	case 3:
		e.Docker("rm", "-f", name)
	case 4:
		e.Docker("restart", "-t", "0", name)
	case 5:
		e.Docker("kill", name)
	case 6:
		e.Docker("start", name)
	case 7:
		e.Docker("network", "connect", net, name)
	case 8:
		e.Docker("network", "disconnect", "-f", net, name)
	case 9:
		e.Docker("run", "--rm", "--network", net, agenttest.Image, "true")
	}
}
