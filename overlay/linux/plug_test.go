package linux

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// inside is what an endpoint made in its sandbox. IPv6's own link-local address
// is left out: it is tentative for a while.
func inside(t *testing.T, sandbox string) string {
	// ip looks into the namespaces of other tests, too, and complains of one that goes.
	return sh(t, "{ ip -n %s link; ip -n %s -4 addr; ip -n %s route; } 2>/dev/null", sandbox, sandbox, sandbox)
}

func TestPlug(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	endpoint := func(i byte, sandbox string) overlay.Endpoint {
		ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(i))
		if sandbox != "" {
			ep.Sandbox = "/run/netns/" + sandbox
		}
		return ep
	}

	t.Run("is whole when it returns", func(t *testing.T) {
		sandbox := h.attach(t, 9)
		contains(t, sh(t, "ip -n %s addr show eth0", sandbox), "mtu 1450", "state UP", "0e:01:0a:40:00:09", "inet 10.64.0.9/24")
		contains(t, sh(t, "ip -n %s route", sandbox), "default via 10.64.0.1 dev eth0")
		contains(t, sh(t, "ip -n %s link show lo", sandbox), "UP")
		contains(t, h.inFabric(t, "bridge -d link show dev %s", overlay.EndpointName(endpoint(9, "").ID)), "learning off flood off")
	})
	t.Run("twice is once", func(t *testing.T) {
		sandbox := h.attach(t, 10)
		before := inside(t, sandbox)
		must(t, h.o.Attach(t.Context(), endpoint(10, sandbox)))
		if after := inside(t, sandbox); after != before {
			t.Errorf("sandbox before:\n%s\nafter:\n%s", before, after)
		}
	})
	t.Run("interface name taken", func(t *testing.T) {
		sandbox := newNamespace(t)
		sh(t, "ip -n %s link add eth0 type veth peer name other", sandbox)
		err := h.o.Attach(t.Context(), endpoint(11, sandbox))
		if !errors.Is(err, overlay.ErrIfnameTaken) {
			t.Errorf("error = %v", err)
		}
		if ids, _ := h.o.Attached(t.Context()); slices.Contains(ids, endpoint(11, "").ID) {
			t.Error("a link is left behind")
		}
		contains(t, sh(t, "ip -n %s link", sandbox), "eth0@other")
	})
	t.Run("no such sandbox", func(t *testing.T) {
		if err := h.o.Attach(t.Context(), endpoint(12, "weft-t-none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("a file that is no namespace", func(t *testing.T) {
		ep := endpoint(12, "")
		ep.Sandbox = "/etc/hostname"
		if err := h.o.Attach(t.Context(), ep); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("moves to a sandbox made anew", func(t *testing.T) {
		h.attach(t, 13)
		second := newNamespace(t)
		must(t, h.o.Attach(t.Context(), endpoint(13, second)))
		contains(t, sh(t, "ip -n %s addr show eth0", second), "inet 10.64.0.13/24")
	})
	t.Run("waits in the host for a runtime", func(t *testing.T) {
		must(t, h.o.Attach(t.Context(), endpoint(14, "")))
		contains(t, h.in(t, "ip link show %s", overlay.WaitingName(endpoint(14, "").ID)), "0e:01:0a:40:00:0e")
		must(t, h.o.Detach(t.Context(), endpoint(14, "").ID))
		if out, err := try(t, "ip -n %s link show %s", h.ns, overlay.WaitingName(endpoint(14, "").ID)); err == nil {
			t.Errorf("still there after detach:\n%s", out)
		}
	})
	t.Run("undone when a step fails", func(t *testing.T) {
		sandbox := newNamespace(t)
		ep := endpoint(15, sandbox)
		ep.Gateways = append(ep.Gateways, overlaytest.Peer(h.vtep, 77)) // not on the link: unreachable
		if err := h.o.Attach(t.Context(), ep); err == nil {
			t.Fatal("no error")
		}
		if ids, _ := h.o.Attached(t.Context()); slices.Contains(ids, ep.ID) {
			t.Error("a link is left behind")
		}
		if out, err := try(t, "ip -n %s link show eth0", sandbox); err == nil {
			t.Errorf("the interface is left behind:\n%s", out)
		}
	})
	t.Run("sandbox that disables IPv6", func(t *testing.T) {
		sandbox := newNamespace(t)
		sh(t, "ip netns exec %s sysctl -qw net.ipv6.conf.default.disable_ipv6=1", sandbox)
		ep := endpoint(16, sandbox)
		ep.Addrs = append(ep.Addrs, netipPrefix("2001:db8:64::16/64"))
		must(t, h.o.Attach(t.Context(), ep))
		contains(t, sh(t, "ip -n %s -6 addr show eth0", sandbox), "2001:db8:64::16/64")
	})
}

func TestSandboxRemoved(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	sandbox := h.attach(t, 9)
	id := overlaytest.Port(9).Endpoint
	ids, err := h.o.Attached(t.Context())
	must(t, err)
	if !slices.Equal(ids, []string{id}) {
		t.Fatalf("attached: %q", ids)
	}
	changes := h.k.Changes(t.Context())
	sh(t, "ip netns del %s", sandbox)
	await(t, changes, func() bool {
		ids, err := h.o.Attached(t.Context())
		must(t, err)
		return len(ids) == 0
	})
	// The state still names it: its entries wait for its link.
	s := h.state(t, "one network with a local endpoint")
	h.set(t, s)
}

// await waits for a condition that a change in the kernel brings about. It also
// looks now and then, for the kernel keeps quiet about settings.
func await(t testing.TB, changes <-chan struct{}, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-changes:
		case <-look.C:
		case <-deadline:
			t.Fatal("not within ten seconds")
		}
	}
}

func TestIdentify(t *testing.T) {
	h := newHost(t)
	name := newNamespace(t)
	path := "/run/netns/" + name
	first, err := h.o.Identify(t.Context(), path)
	must(t, err)
	again, err := h.o.Identify(t.Context(), path)
	must(t, err)
	sh(t, "ip netns del %s && ip netns add %s", name, name)
	anew, err := h.o.Identify(t.Context(), path)
	must(t, err)
	if first != again || first == anew || first == 0 {
		t.Errorf("cookies %d, %d, and of the namespace made anew %d", first, again, anew)
	}
	if _, err := h.o.Identify(t.Context(), path+"-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}

// What somebody did to an endpoint from inside is named, and attached again the
// endpoint is as it was.
func TestAlteredInterfaceIsNamedAndPutRight(t *testing.T) {
	h := newHost(t)
	h.set(t, h.blueOn(true))
	sandbox := h.attachDual(t, 9)
	ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(9))
	ep.Sandbox = "/run/netns/" + sandbox
	ep.Addrs = append(ep.Addrs, netip.PrefixFrom(addr6(9), 64))
	ep.Gateways = append(ep.Gateways, addr6(1))
	inspect := func() string {
		how, err := h.o.Inspect(t.Context(), ep)
		must(t, err)
		return strings.Join(how, ", ")
	}
	if got := inspect(); got != "" {
		t.Fatalf("as it was made: %q", got)
	}
	for _, row := range []struct{ damage, want string }{
		{"ip addr flush dev eth0", "no address 10.64.0.9/24, no address 2001:db8:64::9/64, no route to 10.64.0.0/24, no default route via 10.64.0.1"},
		{"ip link set eth0 down", "eth0 down"},
		{"ip link set eth0 down; ip link set eth0 up", "no address 2001:db8:64::9/64"},
		{"ip link set eth0 arp off", "arp off"},
		{"ip link set eth0 mtu 1300", "mtu 1300, not 1450"},
		{"ip link set eth0 address 02:00:00:00:00:77", "MAC address 02:00:00:00:00:77, not 0e:01:0a:40:00:09"},
		{"ip route del default", "no default route via 10.64.0.1"},
		{"ip route flush dev eth0", "no route to 10.64.0.0/24"},
		{"ip -6 route flush dev eth0", "no route to 2001:db8:64::/64, no default route via 2001:db8:64::1"},
		{"ip link del eth0", "no interface eth0"},
		{"ip link set eth0 name lan0", "no interface eth0"},
	} {
		t.Run(row.damage, func(t *testing.T) {
			sh(t, "ip netns exec %s sh -c '%s'", sandbox, row.damage)
			if got := inspect(); !strings.Contains(got, row.want) {
				t.Errorf("got %q, want in it %q", got, row.want)
			}
			must(t, h.o.Attach(t.Context(), ep))
			if got := inspect(); got != "" {
				t.Errorf("attached again: %q", got)
			}
			sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.1; ip netns exec %s ping -c1 -W2 2001:db8:64::1", sandbox, sandbox)
		})
	}
}

// An interface in a fabric would be a port beside those of a network: refused, in this
// agent's and in that of another agent of the machine, also before it carries anything.
func TestFabricIsNoSandbox(t *testing.T) {
	h, other := newHost(t), newHost(t)
	s := h.state(t, "one network")
	h.set(t, s)
	for i, fabric := range []string{h.fabric, other.fabric} {
		ep := overlaytest.Endpoint(s.Networks[1], overlaytest.Port(byte(9+i)))
		ep.Sandbox = "/run/netns/" + fabric
		if err := h.o.Attach(t.Context(), ep); !errors.Is(err, overlay.ErrFabric) {
			t.Errorf("error = %v, want %v", err, overlay.ErrFabric)
		}
		if links := sh(t, "ip -n %s -br link show type veth", fabric); strings.Contains(links, "eth0") {
			t.Errorf("left in the fabric: %s", links)
		}
	}
}
