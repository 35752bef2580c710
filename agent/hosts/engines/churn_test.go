package engines_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Each container costs the engine more than the agent: CI has some, and before a release
// there are more.
var (
	each       = flag.Int("each", 10, "how many containers come at once on each host")
	operations = flag.Int("operations", 80, "how many things are done at random, on both engines")
)

// Many containers at once on every host: each gets an address of its own, and
// when they are gone nothing is left of them.
func TestDockerManyContainersAtOnce(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	l.DockerNetwork(docker, "blue")
	start := time.Now()
	var wg sync.WaitGroup
	for _, e := range docker {
		for w := range 10 {
			wg.Go(func() {
				for i := range *each / 10 {
					name := fmt.Sprintf("%s-%d-%d", e.Host.Name, w, i)
					if r := e.Docker("run", "-d", "--name", name, "--network", "blue", agenttest.Image, "sleep", "1000"); r.Code != 0 {
						t.Errorf("%s", r)
					}
				}
			})
		}
	}
	wg.Wait()
	t.Logf("%d containers in %v", 2**each, time.Since(start))
	seen := map[netip.Addr]string{}
	for _, e := range docker {
		for name, a := range addrs(t, e, "blue") {
			if other := seen[a]; other != "" {
				t.Errorf("%s has %v, as %s has", name, a, other)
			}
			seen[a] = name
		}
	}
	if len(seen) != 2**each {
		t.Errorf("%d addresses, want %d", len(seen), 2**each)
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
func addrs(t *testing.T, e *agenttest.Engine, network string) map[string]netip.Addr {
	t.Helper()
	out := map[string]netip.Addr{}
	for _, c := range e.Inspect(network).Containers {
		p, err := netip.ParsePrefix(c.IPv4Address)
		if err != nil {
			t.Errorf("%s: %s: %v", e.Host.Name, c.Name, err)
		}
		out[c.Name] = p.Addr()
	}
	return out
}

// assertNothingLeft removes every container and checks that no endpoint, no
// interface and, when the host leaves the cluster, no Docker network is left.
func assertNothingLeft(t *testing.T, l *agenttest.Lab, docker []*agenttest.Engine) {
	t.Helper()
	for _, e := range docker {
		// A few at a time: with fifty the engine of Debian 12 may lock up by itself (its
		// networks and their store each wait for the other's lock, while nothing is
		// asked of the driver).
		for ids := range slices.Chunk(strings.Fields(e.Must("ps", "-aq")), 10) {
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
			assertMiscounted(t, e, out)
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
func assertMiscounted(t *testing.T, e *agenttest.Engine, network string) {
	t.Helper()
	t.Logf("%s: Docker miscounts the endpoints of %s", e.Host.Name, network)
	if left := e.Inspect(network).Containers; len(left) > 0 {
		t.Errorf("%s: containers after leave: %v", e.Host.Name, left)
	}
	if r := e.Docker("network", "rm", network); r.Code != 0 && !strings.Contains(r.Stderr, "active endpoints") {
		t.Errorf("%s", r)
	}
	e.Stop()
	e.Start()
	if r := e.Docker("network", "rm", network); r.Code != 0 && !strings.Contains(r.Stderr, "No such network") {
		t.Errorf("%s", r)
	}
}

// Whatever is done in whatever order, in the end there is nothing more than
// Docker says there is.
func TestDockerRandomOperationsLeaveNothing(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	for _, n := range []string{"blue", "green"} {
		l.DockerNetwork(docker, n)
	}
	doAnything(docker, 1, *operations/len(docker))
	for _, n := range []string{"blue", "green"} {
		agenttest.Eventually(t, 15*time.Second, "the endpoints on "+n+" are Docker's", func() error {
			all := l.Host(1).Inspect(n)
			for _, e := range docker {
				if got, want := all.Endpoints(e.Host.Name), e.Inspect(n).Endpoints(""); got != want {
					return fmt.Errorf("%s: agentctl says\n%s\nDocker\n%s", e.Host.Name, got, want)
				}
			}
			return nil
		})
	}
	assertNothingLeft(t, l, docker)
}

// doAnything does so many things on each engine, on all at once; a seed gives the
// same ones again.
func doAnything(docker []*agenttest.Engine, seed uint64, each int) {
	var wg sync.WaitGroup
	for i, e := range docker {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range each {
				anything(e, r)
			}
		})
	}
	wg.Wait()
}

// anything does one thing to one of a few containers. Most of it makes sense
// only in some states, and fails in the others.
func anything(e *agenttest.Engine, r *rand.Rand) {
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
