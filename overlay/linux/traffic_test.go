package linux

import (
	"log/slog"
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
	sandbox = newNamespace(t)
	ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(i))
	ep.Sandbox = "/run/netns/" + sandbox
	ep.Addrs = append(ep.Addrs, netip.PrefixFrom(addr6(i), 64))
	ep.Gateways = append(ep.Gateways, addr6(1))
	must(t, h.o.Attach(t.Context(), ep))
	return sandbox
}

// Of two networks that the host is on neither reaches the other through it, unless
// somebody made it a router.
func TestHostDoesNotRouteBetweenItsUplinks(t *testing.T) {
	needRoot(t)
	public, private := newNamespace(t), newNamespace(t)
	h := &host{ns: newNamespace(t), fabric: unique(), vtep: netip.MustParseAddr("198.18.0.1")}
	for dev, far := range map[string]string{"eth0": public, "eth1": private} {
		sh(t, "ip -n %s link add %s type veth peer name eth0 netns %s", h.ns, dev, far)
		sh(t, "ip -n %s link set %s up; ip -n %s link set eth0 up; ip -n %s link set lo up", h.ns, dev, far, far)
	}
	sh(t, "ip -n %s addr add 192.0.2.1/24 dev eth0; ip -n %s addr add 198.18.0.1/24 dev eth1", h.ns, h.ns)
	sh(t, "ip -n %s link set lo up; ip -n %s route add default via 192.0.2.254", h.ns, h.ns)
	sh(t, "ip -n %s addr add 192.0.2.66/24 dev eth0; ip -n %s route add 198.18.0.0/24 via 192.0.2.1", public, public)
	sh(t, "ip -n %s addr add 198.18.0.2/24 dev eth0; ip -n %s route add default via 198.18.0.1", private, private)
	h.in(t, "sysctl -qw net.ipv4.ip_forward=0")
	h.open(t)
	h.set(t, h.state(t, "one network"))
	reach := func() error {
		_, err := try(t, "ip netns exec %s ping -c 1 -W 1 198.18.0.2", public)
		return err
	}
	if reach() == nil {
		t.Error("with our endpoints the host became a router")
	}
	h.in(t, "sysctl -qw net.ipv4.ip_forward=1")
	h.o = overlay.New(h.k, h.fabric, slog.New(slog.DiscardHandler)) // which reads the kernel anew
	h.set(t, h.state(t, "one network"))
	if err := reach(); err != nil {
		t.Errorf("a router that it was made into routes no more: %v", err)
	}
}

// Another program has the host forward everywhere meanwhile: it goes on when we
// leave.
func TestCleanKeepsOthersForwarding(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s route add default via 192.0.2.254", h.ns)
	for _, others := range []string{"0", "1"} {
		h.in(t, "sysctl -qw net.ipv4.ip_forward=0")
		h.set(t, h.state(t, "one network"))
		h.in(t, "sysctl -qw net.ipv4.ip_forward=%s", others)
		must(t, h.k.Clean(t.Context()))
		if got := strings.TrimSpace(h.in(t, "sysctl -n net.ipv4.conf.eth0.forwarding")); got != others {
			t.Errorf("ip_forward=%s: afterwards eth0 has forwarding=%s", others, got)
		}
		h.open(t)
	}
}
