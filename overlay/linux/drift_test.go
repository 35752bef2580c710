package linux

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// repairedWithin is twice what is promised: other tests share the machine.
const repairedWithin = 4 * time.Second

// Every attribute that can kill or open traffic is set wrong, one after the other,
// while endpoints of another network ping each other 200 times a second. KEEP is the
// endpoint's port. The second command shows what has to be as before.
var drifts = []struct{ damage, shows string }{
	{"bridge -n FABRIC link set dev KEEP state 0", "cat /sys/class/net/KEEP/brport/state"},
	{"bridge -n FABRIC link set dev v001000 state 0", "cat /sys/class/net/v001000/brport/state"},
	{"bridge -n FABRIC link set dev p001000 state 0", "cat /sys/class/net/p001000/brport/state"},
	{"bridge -n FABRIC link set dev KEEP hairpin on", "cat /sys/class/net/KEEP/brport/hairpin_mode"},
	{"bridge -n FABRIC link set dev KEEP guard on", "cat /sys/class/net/KEEP/brport/bpdu_guard"},
	{"bridge -n FABRIC link set dev KEEP root_block on", "cat /sys/class/net/KEEP/brport/root_block"},
	{"bridge -n FABRIC link set dev KEEP fastleave on", "cat /sys/class/net/KEEP/brport/multicast_fast_leave"},
	{"bridge -n FABRIC link set dev KEEP learning on", "cat /sys/class/net/KEEP/brport/learning"},
	{"bridge -n FABRIC link set dev KEEP flood on", "cat /sys/class/net/KEEP/brport/unicast_flood"},
	{"bridge -n FABRIC link set dev v001000 flood off", "cat /sys/class/net/v001000/brport/unicast_flood"},
	{"bridge -n FABRIC link set dev KEEP mcast_flood off", "cat /sys/class/net/KEEP/brport/multicast_flood"},
	{"bridge -n FABRIC link set dev KEEP bcast_flood off", "cat /sys/class/net/KEEP/brport/broadcast_flood"},
	{"bridge -n FABRIC link set dev KEEP mcast_to_unicast on", "cat /sys/class/net/KEEP/brport/multicast_to_unicast"},
	{"bridge -n FABRIC link set dev KEEP neigh_suppress on", "cat /sys/class/net/KEEP/brport/neigh_suppress"},
	{"bridge -n FABRIC link set dev KEEP isolated on", "cat /sys/class/net/KEEP/brport/isolated"},
	{"bridge -n FABRIC link set dev KEEP vlan_tunnel on", "ip -d link show KEEP"},
	{"bridge -n FABRIC link set dev v001000 locked on", "ip -d link show v001000"},
	{"bridge -n FABRIC link set dev KEEP backup_port p001000", "cat /sys/class/net/KEEP/brport/backup_port"},
	{"ip netns exec FABRIC sh -c 'echo 1 > /sys/class/net/KEEP/brport/proxyarp'", "cat /sys/class/net/KEEP/brport/proxyarp"},
	{"ip netns exec FABRIC sh -c 'echo 1 > /sys/class/net/KEEP/brport/proxyarp_wifi'", "cat /sys/class/net/KEEP/brport/proxyarp_wifi"},
	{"ip netns exec FABRIC sh -c 'echo 8 > /sys/class/net/KEEP/brport/group_fwd_mask'", "cat /sys/class/net/KEEP/brport/group_fwd_mask"},
	{"ip -n FABRIC link set KEEP nomaster", "ip link show KEEP"},

	{"ip -n FABRIC link set b001000 type bridge stp_state 1", "cat /sys/class/net/b001000/bridge/stp_state /sys/class/net/KEEP/brport/state"},
	{"ip -n FABRIC link set b001000 type bridge stp_state 1 forward_delay 1500", "cat /sys/class/net/b001000/bridge/stp_state /sys/class/net/b001000/bridge/forward_delay"},
	{"ip -n FABRIC link set b001000 type bridge ageing_time 3000", "cat /sys/class/net/b001000/bridge/ageing_time"},
	{"ip -n FABRIC link set b001000 type bridge group_fwd_mask 8", "cat /sys/class/net/b001000/bridge/group_fwd_mask"},
	{"ip -n FABRIC link set b001000 type bridge mcast_snooping 1 mcast_querier 1", "cat /sys/class/net/b001000/bridge/multicast_snooping /sys/class/net/b001000/bridge/multicast_querier"},
	{"ip -n FABRIC link set b001000 type bridge nf_call_iptables 1 nf_call_arptables 1", "cat /sys/class/net/b001000/bridge/nf_call_iptables /sys/class/net/b001000/bridge/nf_call_arptables"},

	{"ip -n FABRIC link set v001000 type vxlan ttl 1", "ip -d link show v001000"},
	{"ip -n FABRIC link set v001000 type vxlan learning", "ip -d link show v001000"},
	{"ip -n FABRIC link set v001000 type vxlan df set", "ip -d link show v001000"},
	{"ip -n FABRIC link set v001000 type vxlan tos 4", "ip -d link show v001000"},
	{"ip -n FABRIC link set v001000 type vxlan remote 192.0.2.77", "bridge fdb show dev v001000 | sort; ip -d link show v001000"},
	{"ip -n FABRIC link set v001000 type vxlan local 192.0.2.77", "ip -d link show v001000"},

	{"ip -n FABRIC link set KEEP arp off", "ip link show KEEP"},
	{"ip -n FABRIC link set v001000 arp off", "ip link show v001000"},
	{"ip -n HOST link set g001000 arp off", "HOST ip link show g001000"},
	{"ip -n HOST link set g001000 multicast off", "HOST ip link show g001000"},
	{"ip -n FABRIC link set v001000 protodown on", "cat /sys/class/net/v001000/proto_down /sys/class/net/v001000/carrier /sys/class/net/v001000/brport/state"},
	{"ip -n FABRIC link set KEEP mode dormant", "ip link show KEEP"},
	{"ip -n FABRIC link set KEEP down", "ip link show KEEP"},
	{"ip -n HOST link set g001000 down", "HOST ip link show g001000"},
	{"ip -n FABRIC link set b001000 mtu 900", "ip link show b001000"},
	{"ip -n FABRIC link set KEEP mtu 900", "ip link show KEEP"},
	{"ip -n FABRIC link set b001000 down", "ip link show b001000"},
	{"ip -n FABRIC link set v001000 down", "ip link show v001000; bridge fdb show dev v001000 | sort"},
	{"ip -n FABRIC link set p001000 down", "ip link show p001000"},
	{"ip -n HOST link set g001000 address 02:00:00:00:00:99", "HOST ip link show g001000"},
	{"ip -n HOST link set g001000 group 0", "HOST ip link show g001000"},
	{"ip -n HOST link set g001000 alias other", "HOST ip link show g001000"},
	{"ip -n HOST link add name br9 type bridge && ip -n HOST link set g001000 master br9", "HOST ip link show g001000"},

	{"ip netns exec FABRIC sysctl -qw net.bridge.bridge-nf-call-iptables=1", "sysctl net.bridge.bridge-nf-call-iptables"},
	{"ip netns exec FABRIC sysctl -qw net.bridge.bridge-nf-call-arptables=1", "sysctl net.bridge.bridge-nf-call-arptables"},
	{"ip netns exec FABRIC sysctl -qw net.ipv4.ip_forward=1", "sysctl net.ipv4.ip_forward"},
	{"ip netns exec FABRIC sysctl -qw net.ipv6.conf.all.disable_ipv6=0", "sysctl net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.v001000.disable_ipv6"},
	{"ip netns exec FABRIC sysctl -qw net.ipv6.conf.v001000.disable_ipv6=0", "sysctl net.ipv6.conf.v001000.disable_ipv6"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.eth0.forwarding=0", "HOST sysctl net.ipv4.conf.eth0.forwarding"},
	{"ip netns exec HOST sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_forward=0", "HOST sysctl net.ipv4.conf.eth0.forwarding net.ipv4.conf.g001000.forwarding"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.forwarding=0", "HOST sysctl net.ipv4.conf.g001000.forwarding"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.rp_filter=1", "HOST sysctl net.ipv4.conf.g001000.rp_filter"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.arp_ignore=8", "HOST sysctl net.ipv4.conf.g001000.arp_ignore"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.arp_announce=0", "HOST sysctl net.ipv4.conf.g001000.arp_announce"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.arp_filter=1", "HOST sysctl net.ipv4.conf.g001000.arp_filter"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.proxy_arp=1", "HOST sysctl net.ipv4.conf.g001000.proxy_arp"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.proxy_arp_pvlan=1", "HOST sysctl net.ipv4.conf.g001000.proxy_arp_pvlan"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.route_localnet=1", "HOST sysctl net.ipv4.conf.g001000.route_localnet"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.send_redirects=1", "HOST sysctl net.ipv4.conf.g001000.send_redirects"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.accept_redirects=1", "HOST sysctl net.ipv4.conf.g001000.accept_redirects"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.accept_source_route=1", "HOST sysctl net.ipv4.conf.g001000.accept_source_route"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.accept_local=1", "HOST sysctl net.ipv4.conf.g001000.accept_local"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.bc_forwarding=1", "HOST sysctl net.ipv4.conf.g001000.bc_forwarding"},
	{"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.drop_gratuitous_arp=1", "HOST sysctl net.ipv4.conf.g001000.drop_gratuitous_arp"},
	{"ip netns exec HOST sysctl -qw net.ipv6.conf.g001000.accept_ra=2", "HOST sysctl net.ipv6.conf.g001000.accept_ra"},
	{"ip netns exec HOST sysctl -qw net.ipv6.conf.g001000.disable_ipv6=0", "HOST sysctl net.ipv6.conf.g001000.disable_ipv6"},
	{"ip netns exec HOST sysctl -qw net.ipv6.conf.g001000.proxy_ndp=1", "HOST sysctl net.ipv6.conf.g001000.proxy_ndp"},

	{"ip -n HOST addr flush dev g001000", "HOST ip addr show g001000 | grep inet; HOST ip route show dev g001000"},
	{"ip -n HOST addr change 10.64.0.1/24 dev g001000 noprefixroute valid_lft 90 preferred_lft 30", "HOST ip addr show g001000 | grep -A1 inet"},
	{"ip -n HOST addr del 10.64.0.1/24 dev g001000; ip -n HOST addr add 10.64.0.1/24 dev g001000 noprefixroute scope link", "HOST ip addr show g001000 | grep inet; HOST ip route show dev g001000"},
	{"ip -n HOST addr add 198.51.100.7/24 dev g001000", "HOST ip addr show g001000 | grep inet; HOST ip route show dev g001000"},
	{"ip -n HOST route change 10.64.0.0/24 dev g001000 proto 79 scope link src 10.64.0.1 mtu 600", "HOST ip route show dev g001000"},
	{"ip -n HOST route change 10.64.0.0/24 via 192.0.2.2 proto 79", "HOST ip route show 10.64.0.0/24"},
	{"ip -n HOST route del 10.64.0.0/24", "HOST ip route show 10.64.0.0/24"},

	{"ip -n FABRIC neigh change 10.64.0.6 lladdr 0e:00:00:00:00:01 dev v001000 nud permanent", "ip neigh show dev v001000 | sort"},
	{"ip -n FABRIC neigh replace 10.64.0.6 lladdr 0e:01:0a:40:00:06 dev v001000 nud reachable protocol 79", "ip neigh show dev v001000 | sort"},
	{"ip -n FABRIC neigh replace 10.64.0.6 lladdr 0e:01:0a:40:00:06 dev v001000 nud permanent protocol 79 router", "ip neigh show dev v001000 | sort"},
	{"bridge -n FABRIC fdb replace 0e:01:0a:40:00:06 dev v001000 dst 192.0.2.99 self permanent", "bridge fdb show dev v001000 | sort"},
	{"bridge -n FABRIC fdb replace 0e:01:0a:40:00:06 dev v001000 dst 192.0.2.2 port 4444 self permanent", "bridge fdb show dev v001000 | sort"},
	{"bridge -n FABRIC fdb append 00:00:00:00:00:00 dev v001000 dst 192.0.2.99 self permanent", "bridge fdb show dev v001000 | sort"},
	{"bridge -n FABRIC fdb replace 0e:01:0a:40:00:05 dev p001000 master static", "bridge fdb show br b001000 | grep static | sort"},

	{"ip netns exec FABRIC nft delete element bridge weft ports4 '{ KEEP . 0e:01:0a:40:00:05 . 10.64.0.5 }'", "nft list set bridge weft ports4"},
	{"ip netns exec FABRIC nft insert rule bridge weft guard iifname KEEP drop", "nft list table bridge weft | grep -v counter"},
	{"ip netns exec HOST nft add element inet weft closed '{ g001000 }'", "HOST nft list set inet weft closed"},
	{"umount -l /run/netns/FABRIC", "HOST stat -Lc %i /run/netns/FABRIC || echo none"},
	{"ip netns del FABRIC", "HOST stat -Lc %i /run/netns/FABRIC || echo none"},
}

func TestWhatCanKillOrOpenTrafficIsRepaired(t *testing.T) {
	a, b := pair(t)
	for _, h := range []*host{a, b} {
		h.set(t, h.twoNetworks(map[*host]byte{a: 6, b: 5}[h]))
	}
	from, to := a.attach(t, 5), b.attach(t, 6)
	untouched := a.attachGreen(t, 15)
	b.attachGreen(t, 16)
	a.running(t)
	lost := pings(t, untouched, "10.65.0.16")
	words := strings.NewReplacer("FABRIC", a.fabric, "KEEP", overlay.EndpointName(overlaytest.Port(5).Endpoint))
	var slowest time.Duration
	for _, d := range drifts {
		t.Run(d.damage, func(t *testing.T) {
			shows := "ip netns exec FABRIC sh -c '" + d.shows + "'"
			if host, ok := strings.CutPrefix(d.shows, "HOST "); ok {
				shows = strings.ReplaceAll("ip netns exec HOST "+host, "; HOST ", "; ip netns exec HOST ")
			}
			// ip(8) complains of other tests' namespaces that go.
			shows = "{ " + strings.ReplaceAll(words.Replace(shows), "HOST", a.ns) + "; } 2>/dev/null"
			want := sh(t, "%s", shows)
			damage := strings.ReplaceAll(words.Replace(d.damage), "HOST", a.ns)
			for tries := 0; sh(t, "%s && %s", damage, shows) == want; tries++ { // repaired before it was seen
				if tries == 20 {
					t.Fatalf("no damage: %s", want)
				}
			}
			if took := repaired(t, shows, want); took > slowest {
				slowest = took
			}
			sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.6; ip netns exec %s ping -c1 -W2 10.64.0.1", from, from)
			sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.5", to)
		})
	}
	t.Logf("the slowest repair took %v", slowest)
	if out := lost(); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("an untouched network lost packets: %s", out)
	}
}

// repaired waits until a command shows what it did before.
func repaired(t *testing.T, shows, want string) time.Duration {
	t.Helper()
	start := time.Now()
	for look := time.NewTicker(20 * time.Millisecond); ; <-look.C {
		got, _ := try(t, "%s", shows)
		if got == want {
			return time.Since(start)
		}
		if time.Since(start) > repairedWithin {
			t.Fatalf("not repaired in %v: %s\nwant: %s", repairedWithin, got, want)
		}
	}
}

// running repairs the host until the test ends.
func (h *host) running(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error)
	go func() { done <- h.o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
}

// pings sends one 200 times a second until lost is called, which says how many
// came back.
func pings(t *testing.T, sandbox, to string) (lost func() string) {
	t.Helper()
	var out strings.Builder
	c := exec.Command("ip", "netns", "exec", sandbox, "ping", "-q", "-i", "0.005", to)
	c.Stdout, c.Stderr = &out, &out
	must(t, c.Start())
	stop := func() {
		_ = c.Process.Signal(syscall.SIGINT)
		_ = c.Wait()
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	return func() string {
		stopped = true
		stop()
		return out.String()
	}
}

// twoNetworks is a host's state with Blue, which has a remote endpoint, and with
// another network that nobody touches.
func (h *host) twoNetworks(remote byte) overlay.State {
	other := netip.MustParseAddr("192.0.2.1")
	if h.vtep == other {
		other = netip.MustParseAddr("192.0.2.2")
	}
	s := h.blueOn(false, overlay.Remote{Addr: overlaytest.Addr(remote), MAC: overlaytest.MAC(remote), VTEP: other})
	s.Networks = append(s.Networks, h.green(overlay.Remote{Addr: greenAddr(remote + 10), MAC: greenMAC(remote + 10), VTEP: other}))
	return s
}

func (h *host) green(remotes ...overlay.Remote) overlay.Network {
	return overlay.Network{
		VNI: 4097, ID: "fedcba9876543210fedcba9876543210", Name: "green", MTU: 1450, HostAccess: true,
		Subnets:    []overlay.Subnet{{CIDR: netip.MustParsePrefix("10.65.0.0/24"), Gateway: greenAddr(1)}},
		GatewayMAC: overlay.MAC{0x0e, h.vtep.AsSlice()[3], 10, 65, 0, 1}, Remotes: remotes,
	}
}

func greenAddr(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 65, 0, i}) }
func greenMAC(i byte) overlay.MAC { return overlay.MAC{0x0e, 1, 10, 65, 0, i} }

// attachGreen makes a sandbox with endpoint i of the other network.
func (h *host) attachGreen(t testing.TB, i byte) (sandbox string) {
	t.Helper()
	sandbox = newNamespace(t)
	port := overlaytest.Port(i)
	port.MAC, port.Addrs = greenMAC(i), []netip.Addr{greenAddr(i)}
	ep := overlaytest.Endpoint(h.green(), port)
	ep.Sandbox = "/run/netns/" + sandbox
	must(t, h.o.Attach(t.Context(), ep))
	return sandbox
}
