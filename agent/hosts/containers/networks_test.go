package containers_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A network of the cluster is one of every engine's, as it was made, and Docker's
// commands do to it what they may.
func TestDockerNetworksAreThoseOfTheCluster(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	ctl := l.Host(2)
	ctl.MustCtl("network", "create", "shop", "--subnet", "10.90.0.0/24", "--ip-range", "10.90.0.128/25", "--aux-address", "printer=10.90.0.9",
		"--label", "team=a", "--internal", "-o", "mtu=1400")
	for _, e := range docker {
		e.AwaitNetwork("shop")
		e.Container("shop", "on-"+e.Host.Name)
	}
	assertInspectionsAgree(t, docker)
	if out := docker[0].Must("run", "--rm", "--network", "shop", agenttest.Image, "cat", "/sys/class/net/eth0/mtu"); out != "1400" {
		t.Errorf("MTU in the container: %s", out)
	}
	assertNetworksRefused(t, docker[0])
	useUnderOtherNames(t, ctl, docker[0], docker[1])
	removeOnOneHost(t, ctl, docker[0], docker[1])
	takeANameOfDockersOwn(t, ctl, docker[0], docker[1])
	removeFromTheCluster(t, ctl, docker)
}

// assertInspectionsAgree checks that Docker says of shop what the agents say.
func assertInspectionsAgree(t *testing.T, docker []*agenttest.Engine) {
	for _, e := range docker {
		agenttest.Eventually(t, agenttest.Follows, "the two inspections agree", func() error {
			got, want := e.Inspect("shop"), e.Host.Inspect("shop")
			if g, w := fmt.Sprint(got.Name, got.Internal, got.IPAM), fmt.Sprint(want.Name, want.Internal, want.IPAM); g != w {
				return fmt.Errorf("docker says %s, agentctl %s", g, w)
			}
			delete(got.Labels, "weft")
			if !maps.Equal(got.Labels, want.Labels) {
				return fmt.Errorf("labels: docker says %v, agentctl %v", got.Labels, want.Labels)
			}
			if g, w := got.Endpoints(""), want.Endpoints(e.Host.Name); g != w || len(want.Containers) != 2 {
				return fmt.Errorf("docker says\n%s\nagentctl\n%s", g, w)
			}
			return nil
		})
	}
}

// assertNetworksRefused asks Docker for networks that cannot be, or are not as asked.
func assertNetworksRefused(t *testing.T, e *agenttest.Engine) {
	for _, c := range []struct{ what, line, want string }{
		{"removed with containers on it", "network rm shop", "has active endpoints"},
		{"unknown network", "network create -d weft --ipam-driver weft --ipam-opt network=none x1", "agentctl network create none"},
		{"Docker's own IPAM", "network create -d weft -o network=shop --subnet 10.90.0.0/24 x3", "--ipam-driver weft"},
		{"unknown option", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.90.0.0/24 -o colour=red x4", "no such setting"},
		{"another setting", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.90.0.0/24 -o mtu=1500 x5", "has 1400"},
		{"not internal", "network create -d weft --ipam-driver weft --ipam-opt network=shop --subnet 10.90.0.0/24 x6", "add --internal"},
		{"another gateway", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.90.0.0/24 --gateway 10.90.0.2 x7", "leave --gateway out"},
		{"another subnet", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.91.0.0/24 x8", "has 10.90.0.0/24"},
		{"a subnet that is on the host", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal x12", "--ipam-opt network=shop -o network=shop --subnet 10.90.0.0/24 --internal NAME"},
		{"unknown IPAM option", "network create -d weft --ipam-driver weft --ipam-opt net=shop x9", "unknown option"},
		{"IPv6", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.90.0.0/24 --ipv6 --subnet fd00::/64 x10", "IPv4"},
		{"an address that is kept", "network create -d weft --ipam-driver weft --ipam-opt network=shop --internal --subnet 10.90.0.0/24 --aux-address tv=10.90.0.10 x11", "does not keep it"},
	} {
		r := e.Docker(strings.Fields(c.line)...)
		if r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: want an error with %q:\n%s", c.what, c.want, r)
		}
	}
}

// useUnderOtherNames gives shop a second network of Docker's by hand, under another
// name and by its subnet alone: it is the same one.
func useUnderOtherNames(t *testing.T, ctl *agenttest.Host, here, there *agenttest.Engine) {
	here.Must("network", "create", "-d", "weft", "--ipam-driver", "weft", "--ipam-opt", "network=shop", "--internal", "--subnet", "10.90.0.0/24", "mine")
	here.Container("mine", "adopted")
	agenttest.Eventually(t, agenttest.Follows, "a container on the adopted network", func() error {
		if got := ctl.Inspect("shop").Endpoints("h1"); !strings.Contains(got, "adopted ") {
			return fmt.Errorf("on shop: %s", got)
		}
		return nil
	})
	there.Must("network", "create", "-d", "weft", "--ipam-driver", "weft", "--internal", "--subnet", "10.90.0.0/24", "bysubnet")
	there.Must("network", "rm", "bysubnet")
}

// removeOnOneHost takes a network from one engine: it comes back, since the cluster
// has it.
func removeOnOneHost(t *testing.T, ctl *agenttest.Host, here, there *agenttest.Engine) {
	ctl.MustCtl("network", "create", "spare")
	here.AwaitNetwork("spare")
	there.AwaitNetwork("spare")
	here.Must("network", "rm", "spare")
	here.AwaitNetwork("spare")
	agenttest.Eventually(t, 2*time.Second, "the log says why it is back", func() error {
		if said := here.Host.LogTail(1000); !strings.Contains(said, "made again") || !strings.Contains(said, "agentctl network rm spare") {
			return errors.New("it does not")
		}
		return nil
	})
	here.Must("network", "prune", "-f")
	here.AwaitNetwork("spare")
	there.Must("run", "--rm", "--network", "spare", agenttest.Image, "true")
}

// takeANameOfDockersOwn makes a network whose name one of Docker's own has on one
// host: that one is left alone.
func takeANameOfDockersOwn(t *testing.T, ctl *agenttest.Host, here, there *agenttest.Engine) {
	own := here.Must("network", "create", "clash")
	ctl.MustCtl("network", "create", "clash")
	there.AwaitNetwork("clash")
	agenttest.Eventually(t, 2*time.Second, "status names it", func() error {
		if r := here.Host.Ctl("status"); !strings.Contains(r.Stdout, "clash") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if got := here.Must("network", "inspect", "-f", "{{.Id}} {{.Driver}}", "clash"); got != own+" bridge" {
		t.Errorf("the network of Docker's own is now %s", got)
	}
	here.Must("network", "rm", "clash")
	here.AwaitNetwork("clash")
}

// removeFromTheCluster removes the networks from every engine, with what runs on
// them by force.
func removeFromTheCluster(t *testing.T, ctl *agenttest.Host, docker []*agenttest.Engine) {
	if r := ctl.Ctl("network", "rm", "shop"); r.Code != 5 || !strings.Contains(r.Stderr, "on-h1") {
		t.Errorf("network rm with containers on it: %s", r)
	}
	ctl.MustCtl("network", "rm", "-f", "shop")
	ctl.MustCtl("network", "rm", "spare")
	for _, e := range docker {
		agenttest.Eventually(t, 3*time.Second, e.Host.Name+": removed networks are gone", func() error {
			if out := e.Must("network", "ls", "--format", "{{.Name}}"); strings.Contains(out, "shop") || strings.Contains(out, "spare") || strings.Contains(out, "mine") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}
