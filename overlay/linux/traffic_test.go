package linux

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// blueOn is the state of a host on Blue with the given remotes.
func (h *host) blueOn(v6 bool, remotes ...overlay.Remote) overlay.State {
	s := overlay.State{Cluster: overlaytest.Cluster, VTEP: h.vtep, Port: 4799, Complete: true}
	s.Members = []netip.Addr{overlaytest.Peer(h.vtep, 1), overlaytest.Peer(h.vtep, 2)}
	n := overlaytest.Blue(h.vtep)
	n.GatewayMAC[1] = h.vtep.AsSlice()[3] // a host's own
	n.Remotes = remotes
	if v6 {
		n.Subnets = append(n.Subnets, overlay.Subnet{CIDR: netip.MustParsePrefix("2001:db8:64::/64"), Gateway: addr6(1)})
	}
	s.Networks = []overlay.Network{n}
	return s
}

func addr6(i byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x64, 15: i})
}

func TestTwoHosts(t *testing.T) {
	a, b := pair(t)
	a.set(t, a.blueOn(true, overlaytest.Remote(a.vtep, 6, 2), overlay.Remote{Addr: addr6(6), MAC: overlaytest.MAC(6), VTEP: b.vtep}))
	b.set(t, b.blueOn(true, overlaytest.Remote(b.vtep, 5, 1), overlay.Remote{Addr: addr6(5), MAC: overlaytest.MAC(5), VTEP: a.vtep}))
	from, to := a.attachDual(t, 5), b.attachDual(t, 6)

	t.Run("reach each other", func(t *testing.T) {
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.6", from)
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.5", to)
		sh(t, "ip netns exec %s ping -c1 -W2 2001:db8:64::6", from)
	})
	t.Run("reach their gateway", func(t *testing.T) {
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.1", from)
		sh(t, "ip netns exec %s ping -c1 -W2 2001:db8:64::1", from)
	})
	t.Run("the largest packet fits the underlay", func(t *testing.T) {
		sh(t, "ip netns exec %s ping -c1 -W2 -M do -s 1422 10.64.0.6", from)
	})
	t.Run("nothing unknown leaves the host", func(t *testing.T) {
		before := a.sent(t)
		for _, unknown := range []string{"10.64.0.77", "-b 10.64.0.255", "224.0.0.251", "2001:db8:64::77", "ff02::1%%eth0"} {
			try(t, "ip netns exec %s ping -c2 -i0.2 -W1 "+unknown, from)
		}
		sh(t, "ip -n %s neigh replace 10.64.0.78 lladdr 0e:01:0a:40:00:78 dev eth0 nud permanent", from)
		try(t, "ip netns exec %s ping -c2 -i0.2 -W1 10.64.0.78", from)
		if n := a.sent(t) - before; n != 0 {
			t.Errorf("%d packets on the underlay", n)
		}
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.6", from)
		if a.sent(t) == before {
			t.Error("the counter does not count")
		}
	})
}

// sent counts the tunnel packets that left the host.
func (h *host) sent(t *testing.T) int {
	t.Helper()
	if _, err := try(t, "ip netns exec %s nft list table ip count", h.ns); err != nil {
		sh(t, `ip netns exec %s nft 'table ip count { chain out { type filter hook output priority 300; udp dport 4799 counter; }; }'`, h.ns)
	}
	out := sh(t, "ip netns exec %s nft list table ip count", h.ns)
	fields := strings.Fields(out[strings.Index(out, "counter packets "):])
	n, err := strconv.Atoi(fields[2])
	must(t, err)
	return n
}

// attachDual is attach with an IPv6 address beside the IPv4 one.
func (h *host) attachDual(t testing.TB, i byte) (sandbox string) {
	t.Helper()
	sandbox = netns(t)
	ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(i))
	ep.Sandbox = "/run/netns/" + sandbox
	ep.Addrs = append(ep.Addrs, netip.PrefixFrom(addr6(i), 64))
	ep.Gateways = append(ep.Gateways, addr6(1))
	must(t, h.o.Attach(t.Context(), ep))
	return sandbox
}
