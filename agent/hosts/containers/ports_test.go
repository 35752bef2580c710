package containers_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// docker run -p on a weft network: whoever may reach the host reaches the
// container, one host port has one holder, and both follow restarts.
func TestDockerPublishesPorts(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	one := docker[0]
	l.DockerNetwork(docker, "blue")
	one.Container("blue", "web", "-p", "8080:80", "-p", "127.0.0.1:9090:80", "-p", "8080:80/udp")
	docker[1].Container("blue", "far")
	one.Sandbox("web").NS.Mirror(t)
	host := netip.AddrPortFrom(one.Host.Addr, 8080)
	gateway := one.Host.Network("blue").Gateway().String()

	for _, row := range []struct {
		name string
		by   agenttest.Netns
		to   netip.AddrPort
		from []string
	}{
		{"the world", l.Internet, host, []string{"192.0.2.254"}},
		{"another host", l.Host(2).NS, host, []string{l.Host(2).Addr.String()}},
		{"a container on another host", docker[1].Sandbox("far").NS, host, []string{l.Host(2).Addr.String()}},
		{"the host", one.Host.NS, host, []string{one.Host.Addr.String(), gateway}},
		{"the host's loopback", one.Host.NS, netip.MustParseAddrPort("127.0.0.1:8080"), []string{gateway}},
		{"one that is the host's alone", one.Host.NS, netip.MustParseAddrPort("127.0.0.1:9090"), []string{gateway}},
		{"itself", one.Sandbox("web").NS, host, []string{gateway}},
	} {
		for _, over := range []string{"tcp", "udp"} {
			if over == "udp" && row.to.Port() == 9090 {
				continue
			}
			got, err := row.by.Seen(over, row.to)
			if err != nil || !strings.Contains(" "+strings.Join(row.from, " ")+" ", " "+got+" ") {
				t.Errorf("%s over %s: seen as %q, %v, want one of %v", row.name, over, got, err, row.from)
			}
		}
	}
	if _, err := l.Host(2).NS.Seen("tcp", netip.AddrPortFrom(one.Host.Addr, 9090)); err == nil {
		t.Error("a port of 127.0.0.1 is reached from another host")
	}

	r := one.Docker("run", "-d", "--name", "second", "--network", "blue", "-p", "8080:80", agenttest.Image, "sleep", "60")
	if r.Code == 0 || !strings.Contains(r.Stderr, "8080/tcp is taken by endpoint web") {
		t.Errorf("a second taker of the port: %s", r)
	}
	if out := one.Host.MustCtl("endpoint", "ls"); !strings.Contains(out, "0.0.0.0:8080->80/tcp") || strings.Contains(out, "second") {
		t.Errorf("endpoint ls:\n%s", out)
	}

	portFollows(t, one, l.Host(2).NS, host)
	one.Container("blue", "third", "-p", "8080-8081:80", "-p", "80")
	out := one.Host.MustCtl("endpoint", "ls")
	if strings.Count(out, "->80/tcp") != 2 || !strings.Contains(out, "0.0.0.0:8080->80/tcp") {
		t.Errorf("a range and any port:\n%s", out)
	}
}

// portFollows restarts web and removes it: its port is reached from elsewhere again,
// and then it is free.
func portFollows(t *testing.T, one *agenttest.Engine, from agenttest.Netns, port netip.AddrPort) {
	one.Must("restart", "-t", "1", "web")
	one.Sandbox("web").NS.Mirror(t)
	agenttest.Eventually(t, agenttest.Follows, "the port after docker restart", func() error {
		_, err := from.Seen("tcp", port)
		return err
	})
	one.Must("rm", "-f", "web")
	agenttest.Eventually(t, agenttest.Follows, "the port after docker rm -f", func() error {
		c, err := one.Host.NS.ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), 8080))
		if err != nil {
			return err
		}
		return c.Close()
	})
}
