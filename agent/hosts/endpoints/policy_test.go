package endpoints_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Endpoints reach no agent, on their own host or on another, whose port answers the
// hosts. With host_access=none they reach nothing at any member's address; names are
// answered all the same.
func TestEndpointsReachNoAgent(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h1, h2 := l.Host(1), l.Host(2)
	h1.CreateNetwork("blue")
	shut := h1.CreateNetwork("shut", "-o", "host_access=none")
	open, a := h1.Endpoint("blue", "open")
	closed, b := h1.Endpoint("shut", "closed")
	h2.NS.ServeHTTP(t, h2.Addr, "service\n")
	other := netip.MustParseAddr("203.0.113.2") // on another device than the tunnel's
	h2.NS.Must(t, "ip", "addr", "add", other.String()+"/32", "dev", "lo")
	h1.NS.Must(t, "ip", "route", "add", other.String(), "via", h2.Addr.String())
	h2.NS.ServeHTTP(t, other, "service\n")
	l.Internet.ServeHTTP(t, agenttest.InternetAddr, "world\n")
	connects := func(by agenttest.Netns, to netip.AddrPort) bool {
		return by.Run("timeout", "1", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", to.Addr(), to.Port())).Code == 0
	}
	agenttest.Eventually(t, 20*time.Second, "h1 knows the other address of h2", func() error {
		if r := h1.NS.Run("nft", "get", "element", "inet", "weft", "hosts4", "{ "+other.String()+" }"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	gossip1, gossip2 := netip.AddrPortFrom(h1.Addr, 4798), netip.AddrPortFrom(h2.Addr, 4798)
	for _, row := range []struct {
		name string
		by   agenttest.Netns
		to   netip.AddrPort
		want bool
	}{
		{"a host to another's agent", h1.NS, gossip2, true},
		{"a host to its own agent", h1.NS, gossip1, true},
		{"an endpoint to its host's agent", open.NS, gossip1, false},
		{"an endpoint to another host's agent", open.NS, gossip2, false},
		{"an endpoint to another host's service", open.NS, netip.AddrPortFrom(h2.Addr, 80), true},
		{"a stranger to its host's agent", closed.NS, gossip1, false},
		{"a stranger to another host's agent", closed.NS, gossip2, false},
		{"a stranger to another host's service", closed.NS, netip.AddrPortFrom(h2.Addr, 80), false},
		{"an endpoint to another host's service, elsewhere", open.NS, netip.AddrPortFrom(other, 80), true},
		{"a stranger to another host's service, elsewhere", closed.NS, netip.AddrPortFrom(other, 80), false},
		{"a stranger to the world", closed.NS, netip.AddrPortFrom(agenttest.InternetAddr, 80), true},
	} {
		if got := connects(row.by, row.to); got != row.want {
			t.Errorf("%s: connects %t, want %t", row.name, got, row.want)
		}
	}
	agenttest.Eventually(t, 2*time.Second, "names on a network of strangers",
		closed.Resolver(shut.Gateway()).Wants(agenttest.FQDN("closed", "shut"), b.Addr()))
	if err := open.Resolver(a.Gateway).Wants(agenttest.FQDN("open", "blue"), a.Addr())(); err != nil {
		t.Error(err)
	}
	if r := h2.Ctl("status"); r.Code != 0 {
		t.Errorf("%s", r)
	}
}

// A VPN that comes up and takes a part of a subnet is named within ten seconds, with
// what is cut, and forgotten when it is gone.
func TestRouteOfAVPNIsNamedInStatus(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	n := h.CreateNetwork("blue")
	_, a := h.Endpoint("blue", "web")
	route := netip.PrefixFrom(a.Addr(), 25).Masked().String()
	h.NS.Must(t, "ip", "route", "add", route, "via", "192.0.2.254")
	agenttest.Eventually(t, 10*time.Second, "status names the route", func() error {
		r := h.Ctl("doctor")
		for _, part := range []string{"FAIL", route + " via 192.0.2.254 dev eth0", "network blue", "egress", "web " + a.Addr().String(),
			"fix    routes", "ip route del " + route + " via 192.0.2.254 dev eth0", n.IPAM.Config[0].Subnet} {
			if !strings.Contains(r.Stdout, part) {
				return fmt.Errorf("%q is not in %s", part, r)
			}
		}
		return nil
	})
	h.NS.Must(t, "ip", "route", "del", route)
	agenttest.Eventually(t, 10*time.Second, "all is well again", func() error {
		if r := h.Ctl("doctor"); strings.Contains(r.Stdout, route) {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// Another program's filter that drops what is forwarded is named in status, and the
// lines of the hint, typed as they are, open it. What the old iptables drops is
// accepted without any.
func TestForeignFilterIsNamedAndTheHintOpensIt(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.CreateNetwork("blue")
	web, _ := h.Endpoint("blue", "web")
	out := func() error { return web.PingOnce(agenttest.InternetAddr) }
	h.NS.Must(t, "iptables-legacy", "-P", "FORWARD", "DROP")
	h.MustCtl("network", "create", "green") // the old iptables tells nobody
	h.Endpoint("green", "other")
	agenttest.Eventually(t, 5*time.Second, "endpoints pass the old iptables", out)
	h.NS.Must(t, "sh", "-c", "nft add table inet fw; nft add chain inet fw ahead '{ type filter hook forward priority 10; policy drop; }'")
	if out() == nil {
		t.Error("the chain drops nothing: this test would see nothing")
	}
	var hints []string
	agenttest.Eventually(t, 10*time.Second, "status names the chain", func() error {
		r := h.Ctl("doctor")
		if !strings.Contains(r.Stdout, "chain inet fw ahead") || !strings.Contains(r.Stdout, "egress") || !strings.Contains(r.Stdout, "FAIL   filters") || r.Code != 1 {
			return fmt.Errorf("%s", r)
		}
		for line := range strings.Lines(r.Stdout) {
			if _, hint, ok := strings.Cut(line, "fix    filters"); ok {
				hints = append(hints, strings.TrimSpace(hint))
			}
		}
		return nil
	})
	h.NS.Must(t, "sh", "-c", strings.Join(hints, "\n"))
	agenttest.Eventually(t, 3*time.Second, "endpoints reach the world again", out)
	agenttest.Eventually(t, 10*time.Second, "all is well", func() error {
		if r := h.Ctl("doctor"); !strings.Contains(r.Stdout, "ok     filters") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
