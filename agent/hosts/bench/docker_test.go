package bench_test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// engines starts an agent and a Docker engine on each of two hosts, with a weft
// network and a Swarm overlay between them.
func engines(b *testing.B) []*agenttest.Engine {
	l := agenttest.NewLab(b, agenttest.Config{Hosts: 2})
	var all []*agenttest.Engine
	for _, h := range l.Hosts {
		e := h.NewEngine()
		h.More = append(h.More, "--dns-resolv-conf", filepath.Join(e.Dir, "resolv.conf"))
		h.Start()
		all = append(all, e)
	}
	one, two := l.Host(1), l.Host(2)
	one.Init()
	two.Join(one)
	for _, e := range all {
		e.Start()
	}
	one.CreateNetwork("weft")
	all[0].Must("network", "create", "bridge0")
	all[0].Must("swarm", "init", "--advertise-addr", one.Addr.String())
	token := all[0].Must("swarm", "join-token", "-q", "worker")
	all[1].Must("swarm", "join", "--token", token, one.Addr.String()+":2377")
	all[0].Must("network", "create", "-d", "overlay", "--attachable", "swarm")
	for _, e := range all {
		agenttest.Eventually(b, 10*time.Second, e.Host.Name+": the weft network in Docker", func() error {
			if r := e.Docker("network", "inspect", "weft"); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	return all
}

// idle makes a network whose driver does nothing at all, the limit of every
// driver: its containers have no interface.
func idle(b *testing.B, e *agenttest.Engine, name string) {
	socket := filepath.Join(e.Dir, "idle.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	answers := map[string]string{
		"/Plugin.Activate":                `{"Implements":["NetworkDriver"]}`,
		"/NetworkDriver.GetCapabilities":  `{"Scope":"local"}`,
		"/NetworkDriver.EndpointOperInfo": `{"Value":{}}`,
		"/NetworkDriver.Join":             `{"DisableGatewayService":true}`,
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, cmp.Or(answers[r.URL.Path], "{}"))
	})}
	go server.Serve(l)
	b.Cleanup(func() { server.Close() })
	// Docker looks for plugins that are named by a file there, too.
	if err := os.MkdirAll(filepath.Join(e.Dir, "etc", "plugins"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.Dir, "etc", "plugins", "idle.spec"), []byte("unix://"+socket), 0o644); err != nil {
		b.Fatal(err)
	}
	e.Must("network", "create", "-d", "idle", "--ipam-driver", "null", name)
}

// A container that does nothing, from the command to its end, against Docker's
// own bridge network, Swarm's overlay, and a driver that does nothing.
func BenchmarkDockerRun(b *testing.B) {
	one := engines(b)[0]
	idle(b, one, "idle0")
	// A container that stays keeps each network's devices, as on a host in use.
	var sides []*agenttest.Side
	for _, network := range []string{"weft", "bridge0", "swarm", "idle0"} {
		one.Detached("stays-"+network, "--network", network)
		sides = append(sides, &agenttest.Side{Name: network, Measure: func() float64 {
			start := time.Now()
			one.Must("run", "--rm", "--network", network, agenttest.Image, "true")
			return milliseconds(time.Since(start))
		}})
	}
	for range b.N {
		agenttest.Interleave(max(40, agenttest.Pairs(b)), sides...)
	}
	b.Log("\n" + agenttest.Table("docker run --rm", "ms", []agenttest.Bound{{Against: "bridge0", Ratio: 1.05}, {Against: "swarm", Ratio: 0.6}}, sides...))
	b.Log("\n" + agenttest.Table("the limit", "ms", nil, sides[3], sides[2]))
}

// From the moment when `docker run -d` returns on one host until the name is
// answered in a container on the other, by Docker's own 127.0.0.11.
func BenchmarkDockerName(b *testing.B) {
	all := engines(b)
	one, two := all[0], all[1]
	docker := netip.MustParseAddr("127.0.0.11")
	var sides []*agenttest.Side
	for _, network := range []string{"weft", "swarm"} {
		two.Detached("observer-"+network, "--network", network)
		from := two.Sandbox("observer-" + network).Resolver(docker)
		sides = append(sides, &agenttest.Side{Name: network, Measure: func() float64 {
			name := fmt.Sprintf("c%d-%s", time.Now().UnixNano(), network)
			one.Detached(name, "--network", network)
			took := agenttest.Eventually(b, 10*time.Second, network+": the name on the other host", func() error {
				got, err := from.Ask(name+".", 500*time.Millisecond)
				if err == nil && len(got.Addrs) != 1 {
					err = fmt.Errorf("%v", got)
				}
				return err
			})
			one.Must("rm", "-f", name)
			return milliseconds(took)
		}})
	}
	for range b.N {
		agenttest.Interleave(max(20, agenttest.Pairs(b)), sides...)
	}
	for _, s := range sides {
		b.Logf("%s: p99 %.2f ms", s.Name, s.Percentile(0.99))
	}
	b.Log("\n" + agenttest.Table("name on the other host after docker run -d", "ms", nil, sides...))
}
