package agenttest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Follows is how soon every host knows what happened to a container.
const Follows = time.Second

// DockerHosts is a cluster with a Docker engine on each host.
func DockerHosts(t testing.TB, hosts int, flags ...string) (*Lab, []*Engine) {
	t.Helper()
	l := NewCluster(t, Config{Hosts: hosts})
	var all []*Engine
	for _, h := range l.Hosts {
		e := h.NewEngine()
		e.Launch(flags...)
		all = append(all, e)
	}
	for _, e := range all {
		e.Ready()
		Eventually(t, 5*time.Second, e.Host.Name+": the agent found the engine", func() error {
			if r := e.Host.Ctl("status"); !strings.Contains(r.Stdout, "engine 20.10") {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	return l, all
}

// DockerNetwork makes a network and waits until every engine lists it.
func (l *Lab) DockerNetwork(all []*Engine, name string, flags ...string) Network {
	l.t.Helper()
	l.Host(1).MustCtl(append([]string{"network", "create", name}, flags...)...)
	for _, e := range all {
		e.AwaitNetwork(name)
	}
	return l.Host(1).Network(name)
}

// AwaitNetwork waits until the engine lists a network.
func (e *Engine) AwaitNetwork(name string) {
	e.t.Helper()
	Eventually(e.t, 2*time.Second, e.Host.Name+": docker network "+name, func() error {
		if e.Must("network", "ls", "-q", "--filter", "name=^"+name+"$") == "" {
			return errors.New("not in docker network ls")
		}
		return nil
	})
}

// Container runs one that waits for its end, and returns its address.
func (e *Engine) Container(network, name string, flags ...string) netip.Addr {
	e.t.Helper()
	e.Detached(name, append([]string{"--network", network}, flags...)...)
	return e.Addr(network, name)
}

// Addr is what Docker says is a container's address.
func (e *Engine) Addr(network, name string) netip.Addr {
	e.t.Helper()
	out := e.Must("inspect", "-f", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network), name)
	a, err := netip.ParseAddr(out)
	if err != nil {
		e.t.Fatalf("%s: %s has no address on %s: %q", e.Host.Name, name, network, out)
	}
	return a
}
