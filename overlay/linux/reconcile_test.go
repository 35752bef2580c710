package linux

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

func netipPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// monitor counts the messages of both namespaces that match, until stop.
func (h *host) monitor(t *testing.T) (stop func() []string) {
	t.Helper()
	var sources []*os.File
	for _, s := range []*space{h.k.host, h.k.fabric} {
		f, err := s.subscribe(1, 3, 7, 11, 5, 9)
		must(t, err)
		sources = append(sources, f)
	}
	return func() (seen []string) {
		buf := make([]byte, receiveBuffer)
		for _, f := range sources {
			raw, err := f.SyscallConn()
			must(t, err)
			must(t, raw.Read(func(fd uintptr) bool {
				for {
					n, err := readNow(int(fd), buf)
					if err != nil {
						return true
					}
					messages, err := syscall.ParseNetlinkMessage(buf[:n])
					must(t, err)
					for _, m := range messages {
						seen = append(seen, messageName(m))
					}
				}
			}))
			f.Close()
		}
		return seen
	}
}

func TestRestartedAgentAdoptsWithoutTouching(t *testing.T) {
	h := newHost(t)
	s := h.state(t, "one of them moved here")
	h.attachAfter(t, s, 6)
	second, err := Open(Config{Fabric: h.fabric, Host: "/run/netns/" + h.ns})
	must(t, err)
	defer second.Close()
	// The kernel tells of an IPv6 address of its own a second after its device came up
	// (duplicate address detection, RFC 4862).
	sh(t, "for n in %s %s; do while ip -n $n -6 addr show tentative | grep -q inet6; do sleep 0.05; done; done", h.ns, h.fabric)
	stop := h.monitor(t)
	o := overlay.New(second, "weft", slog.New(slog.DiscardHandler))
	must(t, o.Set(t.Context(), s))
	if seen := stop(); len(seen) > 0 {
		t.Errorf("the restarted agent changed the kernel: %q", seen)
	}
	ids, err := o.Attached(t.Context())
	must(t, err)
	if !slices.Equal(ids, []string{overlaytest.Port(6).Endpoint}) {
		t.Errorf("attached: %q", ids)
	}
}

func (h *host) attachAfter(t *testing.T, s overlay.State, i byte) {
	t.Helper()
	h.set(t, s)
	h.attach(t, i)
	h.set(t, s)
}

func TestRunRepairsTheKernel(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "remote endpoints"))
	want := h.text(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.o.Run(ctx) }()
	defer func() {
		cancel()
		must(t, <-done)
	}()
	for _, damage := range []string{
		"ip -n FABRIC neigh replace 10.64.0.5 lladdr 0e:00:00:00:00:01 dev v001000 nud permanent",
		"ip -n FABRIC neigh add 10.64.0.99 lladdr 0e:00:00:00:00:01 dev v001000 nud permanent",
		"ip -n FABRIC neigh del 10.64.0.5 dev v001000",
		"bridge -n FABRIC fdb replace 0e:01:0a:40:00:05 dev v001000 dst 192.0.2.99 self permanent",
		"bridge -n FABRIC fdb add 0e:01:0a:40:00:99 dev v001000 dst 192.0.2.99 self permanent",
		"bridge -n FABRIC fdb add 00:00:00:00:00:00 dev v001000 dst 192.0.2.99 self permanent",
		"bridge -n FABRIC fdb add 0e:01:0a:40:00:99 dev p001000 master static",
		"bridge -n FABRIC fdb del 0e:01:0a:40:00:01 dev p001000 master",
		"ip -n FABRIC link set v001000 down",
		"ip -n FABRIC link set v001000 mtu 1300",
		"ip -n FABRIC link set p001000 type bridge_slave flood on learning on",
		"ip -n FABRIC link set b001000 type bridge mcast_snooping 1",
		"ip -n FABRIC link del v001000",
		"ip -n FABRIC link del b001000",
		"ip -n HOST link del g001000",
		"ip -n HOST route del 10.64.0.0/24",
		"ip -n HOST addr del 10.64.0.1/24 dev g001000",
		"ip netns exec HOST sysctl -qw net.ipv4.conf.g001000.rp_filter=1 && ip -n HOST link set g001000 mtu 1300",
	} {
		t.Run(damage, func(t *testing.T) {
			changes := h.k.Changes(t.Context())
			sh(t, "%s", strings.NewReplacer("FABRIC", h.fabric, "HOST", h.ns).Replace(damage))
			await(t, changes, func() bool { return h.text(t) == want })
		})
	}
}

func (h *host) text(t *testing.T) string {
	t.Helper()
	have, err := h.k.List(t.Context())
	must(t, err)
	return overlaytest.Text(have)
}

func TestUnderlayChangesInPlace(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "remote endpoints"))
	sandbox := h.attach(t, 9)
	index := h.inFabric(t, "cat /sys/class/net/v001000/ifindex")
	for _, c := range []struct {
		underlay, inner int
		dev             string
	}{{1400, 1350, "1350"}, {9000, 8950, "8950"}} {
		sh(t, "ip -n %s link set far0 mtu %d; ip -n %s link set eth0 mtu %d", h.ns, c.underlay, h.ns, c.underlay)
		mtu, dev, err := h.k.Underlay(h.vtep)
		must(t, err)
		if mtu != c.underlay || dev != "eth0" {
			t.Errorf("underlay is %s, mtu %d", dev, mtu)
		}
		s := h.state(t, "remote endpoints")
		s.Networks[1].MTU = c.inner
		s.Networks[1].Ports = []overlay.Port{overlaytest.Port(9)}
		h.set(t, s)
		for _, dev := range []string{"v001000", "b001000", "p001000", overlay.EndpointName(overlaytest.Port(9).Endpoint)} {
			contains(t, h.inFabric(t, "ip link show %s", dev), "mtu "+c.dev)
		}
		contains(t, sh(t, "ip -n %s link show eth0", sandbox), "mtu "+c.dev)
	}
	sh(t, "ip -n %s addr add 192.0.2.77/24 dev eth0", h.ns)
	s := h.state(t, "remote endpoints")
	s.VTEP = netip.MustParseAddr("192.0.2.77")
	h.set(t, s)
	contains(t, h.inFabric(t, "ip -d link show v001000"), "local 192.0.2.77")
	if now := h.inFabric(t, "cat /sys/class/net/v001000/ifindex"); now != index {
		t.Error("the tunnel device was made anew")
	}
}

func TestPortTaken(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s link add taken type vxlan external dstport 4799 && ip -n %s link set taken up", h.ns, h.ns)
	err := h.o.Set(t.Context(), h.state(t, "one network"))
	if err == nil || !strings.Contains(err.Error(), overlay.ErrPortTaken.Error()) {
		t.Errorf("error = %v", err)
	}
	sh(t, "ip -n %s link del taken", h.ns)
	h.running(t)
	await(t, nil, func() bool { return len(h.o.Troubles()) == 0 })
	h.set(t, h.state(t, "one network"))
}

func TestForeignRouteIsLeftAlone(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s route add 10.64.0.0/24 dev eth0", h.ns)
	err := h.o.Set(t.Context(), h.state(t, "one network"))
	if err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("error = %v", err)
	}
	contains(t, sh(t, "ip -n %s route show 10.64.0.0/24", h.ns), "dev eth0")
}

func TestClean(t *testing.T) {
	h := newHost(t)
	// Both ends of the uplink carry: afterwards nothing changes but by us.
	for start := time.Now(); strings.Count(sh(t, "ip -n %s -6 route", h.ns), "fe80::/64") < 2; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatal("the uplink does not come up")
		}
	}
	before := h.in(t, "sh -c 'ip link; ip route; ip -6 route; nft list ruleset; sysctl -e net.ipv4.conf.eth0.forwarding'")
	s := h.state(t, "with IPv6")
	s.Elsewhere = []netip.Prefix{netipPrefix("10.65.0.0/24"), netipPrefix("2001:db8:65::/64")}
	h.set(t, s)
	h.attach(t, 9)
	must(t, h.o.Clean(t.Context()))
	after := h.in(t, "sh -c 'ip link; ip route; ip -6 route; nft list ruleset; sysctl -e net.ipv4.conf.eth0.forwarding'")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("host (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(h.k.FabricPath()); err == nil {
		t.Error("the fabric namespace is still mounted")
	}
}

func TestChangesEnd(t *testing.T) {
	h := newHost(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	changes := h.k.Changes(ctx)
	cancel()
	for range changes {
	}
}
