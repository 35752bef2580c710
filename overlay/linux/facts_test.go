package linux

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// as runs fn as an agent in the host's namespace would.
func (h *host) as(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := unix.Setns(int(h.k.host.ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			fn()
		}
		done <- err
	}()
	must(t, <-done)
}

func TestDefaultAddr(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct{ name, before, want string }{
		{"no default route", "true", "invalid IP"},
		{"the address of the route's device", "ip -n HOST route add default via 192.0.2.254 metric 50", "192.0.2.1"},
		{"the preferred source of the better route", "ip -n HOST addr add 192.0.2.9/24 dev eth0" +
			" && ip -n HOST route add default via 192.0.2.254 src 192.0.2.9 metric 10", "192.0.2.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh(t, "%s", strings.ReplaceAll(c.before, "HOST", h.ns))
			var a netip.Addr
			var err error
			h.as(t, func() { a, err = DefaultAddr() })
			if a.String() != c.want || a.IsValid() == errors.Is(err, os.ErrNotExist) {
				t.Errorf("address %s, %v, want %s", a, err, c.want)
			}
		})
	}
}

func TestLocalRoutes(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "with IPv6"))
	sh(t, "ip -n %s route add default via 192.0.2.254; ip -n %s route add 10.9.0.0/16 via 192.0.2.254; ip -n %s route add blackhole 10.8.0.0/16", h.ns, h.ns, h.ns)
	var got []netip.Prefix
	var err error
	h.as(t, func() { got, err = LocalRoutes() })
	must(t, err)
	want := []netip.Prefix{netipPrefix("10.9.0.0/16"), netipPrefix("192.0.2.0/24"), netipPrefix("2001:db8::/64")}
	if !slices.Equal(got, want) {
		t.Errorf("routes %v, want %v", got, want)
	}
}

// The addresses of a host are those of its own devices.
func TestLocalAddrs(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network with a local endpoint"))
	sh(t, "ip -n %s addr add 203.0.113.1/32 dev lo", h.ns)
	var got []netip.Addr
	var err error
	h.as(t, func() { got, err = LocalAddrs() })
	must(t, err)
	has := func(a string) bool { return slices.Contains(got, netip.MustParseAddr(a)) }
	if !has("203.0.113.1") || !has(h.vtep.String()) || has("10.42.0.1") {
		t.Errorf("addresses %v, want those of eth0 and lo and not the gateway's", got)
	}
}

func TestUnderlay(t *testing.T) {
	h := newHost(t)
	if _, _, err := h.k.Underlay(netip.MustParseAddr("192.0.2.99")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error for an address nobody has: %v", err)
	}
	sh(t, "ip -n %s route add default via 192.0.2.254 mtu 1400", h.ns)
	mtu, dev, err := h.k.Underlay(h.vtep)
	must(t, err)
	if mtu != 1400 || dev != "eth0" {
		t.Errorf("underlay %s mtu %d, want eth0 and the route's 1400", dev, mtu)
	}
}

// A bridge that a device leads into from outside is not for this host alone.
func TestBridges(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s link add docker0 type bridge; ip -n %[1]s link add br-a type bridge; ip -n %[1]s link add lan type bridge", h.ns)
	sh(t, "ip -n %s link add veth0 type veth peer name veth1; ip -n %[1]s link set veth0 master br-a", h.ns)
	sh(t, "ip -n %s link add vx0 type vxlan id 7 dstport 4790 local 192.0.2.1; ip -n %[1]s link set vx0 master lan", h.ns)
	got, err := h.k.Bridges(t.Context())
	must(t, err)
	if !slices.Equal(got, []string{"br-a", "docker0"}) {
		t.Errorf("bridges %q", got)
	}
}

func TestUplinks(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s link set far0 up; ip -n %s route add default dev far0", h.ns, h.ns)
	got, err := h.k.Uplinks(t.Context(), h.vtep)
	must(t, err)
	if !slices.Equal(got.Devices, []string{"eth0", "far0"}) {
		t.Errorf("uplinks %q", got.Devices)
	}
}

func TestNeighbourTables(t *testing.T) {
	all, err := NeighbourTables()
	must(t, err)
	families := map[bool]string{}
	for _, n := range all {
		families[n.IPv6] = n.Name
		if n.Limit < 128 || n.Entries < 0 || n.Entries > 1<<20 {
			t.Errorf("table %+v", n)
		}
	}
	if families[false] != "arp_cache" || families[true] != "ndisc_cache" {
		t.Errorf("tables %+v", all)
	}
}
