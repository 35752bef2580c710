package hosts_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// engine is a Docker host of a cluster.
type engine struct {
	*agenttest.Engine
	t testing.TB
}

// dockerHosts is a cluster with a Docker engine on each host.
func dockerHosts(t *testing.T, hosts int, flags ...string) (*agenttest.Lab, []engine) {
	t.Helper()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: hosts})
	var all []engine
	for _, h := range l.Hosts {
		e := engine{h.NewEngine(), t}
		e.Launch(flags...)
		all = append(all, e)
	}
	for _, e := range all {
		e.Ready()
		agenttest.Eventually(t, 5*time.Second, e.Host.Name+": the agent found the engine", func() error {
			if r := e.Host.Ctl("status"); !strings.Contains(r.Stdout, "engine 20.10") {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	return l, all
}

// network makes a network and waits until every engine lists it.
func network(t *testing.T, l *agenttest.Lab, all []engine, name string, flags ...string) agenttest.Network {
	t.Helper()
	l.Host(1).MustCtl(append([]string{"network", "create", name}, flags...)...)
	for _, e := range all {
		e.awaitNetwork(name)
	}
	return l.Host(1).Network(name)
}

// awaitNetwork waits until the engine lists a network.
func (e engine) awaitNetwork(name string) {
	e.t.Helper()
	agenttest.Eventually(e.t, 2*time.Second, e.Host.Name+": docker network "+name, func() error {
		if e.Must("network", "ls", "-q", "--filter", "name=^"+name+"$") == "" {
			return errors.New("not in docker network ls")
		}
		return nil
	})
}

// container runs one that waits for its end, and returns its address.
func (e engine) container(network, name string, flags ...string) netip.Addr {
	e.t.Helper()
	e.Detached(name, append([]string{"--network", network}, flags...)...)
	return e.addr(network, name)
}

// addr is what Docker says is a container's address.
func (e engine) addr(network, name string) netip.Addr {
	e.t.Helper()
	out := e.Must("inspect", "-f", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network), name)
	a, err := netip.ParseAddr(out)
	if err != nil {
		e.t.Fatalf("%s: %s has no address on %s: %q", e.Host.Name, name, network, out)
	}
	return a
}

func TestDockerContainersOfTwoHostsReachEachOther(t *testing.T) {
	t.Parallel()
	l, docker := dockerHosts(t, 2)
	n := network(t, l, docker, "blue")
	web := docker[0].container("blue", "web", "--network-alias", "www")
	for _, name := range []string{web.String(), "web", "www", "web.blue"} {
		docker[1].Must("run", "--rm", "--network", "blue", "--dns", n.Gateway().String(), agenttest.Image, "ping", "-c", "1", "-W", "2", name)
	}
}
