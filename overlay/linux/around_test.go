package linux

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay/linux/netns"
)

// Another program's route into a subnet is found when the kernel prefers it to ours,
// in whichever table it is, and is gone when it is.
func TestRoutesThatTakeASubnetAreFound(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s route add default via 192.0.2.254", h.ns)
	h.set(t, h.state(t, "one network"))
	sh(t, "ip -n %s link add tun0 type veth peer name far1; ip -n %[1]s link set tun0 up; ip -n %[1]s link set far1 up", h.ns)
	for name, tt := range map[string]struct{ add, del, want string }{
		"half of it":                {"route add 10.64.0.0/25 dev tun0", "route del 10.64.0.0/25", "10.64.0.0/25 dev tun0"},
		"by a gateway":              {"route add 10.64.0.128/25 via 192.0.2.9", "route del 10.64.0.128/25", "10.64.0.128/25 via 192.0.2.9 dev eth0"},
		"one address":               {"route add 10.64.0.9/32 dev tun0", "route del 10.64.0.9/32", "10.64.0.9/32 dev tun0"},
		"into nothing":              {"route add blackhole 10.64.0.64/26", "route del blackhole 10.64.0.64/26", "blackhole 10.64.0.64/26"},
		"an address of the host":    {"addr add 10.64.0.77/32 dev tun0", "addr del 10.64.0.77/32 dev tun0", "local 10.64.0.77/32 dev tun0"},
		"a table that is asked now": {"rule add pref 100 lookup 52", "rule del pref 100", "10.64.0.0/16 dev tun0 table 52"},
		"a larger network":          {"route add 10.0.0.0/8 dev tun0", "route del 10.0.0.0/8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(tt.want, "table 52") {
				sh(t, "ip -n %s route replace 10.64.0.0/16 dev tun0 table 52", h.ns)
			}
			sh(t, "ip -n %s %s", h.ns, tt.add)
			if got := h.taken(t); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
			sh(t, "ip -n %s %s", h.ns, tt.del)
			if got := h.taken(t); got != "" {
				t.Errorf("found %q when it was gone", got)
			}
		})
	}
}

// taken are the routes that were found, with the network.
func (h *host) taken(t *testing.T) string {
	t.Helper()
	_, _, err := h.o.Verify(t.Context())
	must(t, err)
	var out []string
	for _, r := range h.o.Surroundings().Routes {
		if r.Network != "blue" {
			t.Errorf("network %q, want blue", r.Network)
		}
		out = append(out, r.Route.String())
	}
	return strings.Join(out, "; ")
}

// What comes in between is signalled at once.
func TestForeignRouteIsNoticed(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	changes := h.k.Changes(t.Context())
	for what, command := range map[string]string{
		"a route into a subnet": "route add 10.64.0.0/25 dev eth0", "a rule": "rule add pref 100 lookup 52",
	} {
		for quiet := false; !quiet; {
			select {
			case <-changes:
			case <-time.After(300 * time.Millisecond):
				quiet = true
			}
		}
		sh(t, "ip -n %s %s", h.ns, command)
		select {
		case <-changes:
		case <-time.After(3 * time.Second):
			t.Errorf("%s: nothing is signalled", what)
		}
	}
}

// What the host sends into a network that it does not carry is refused at once, and
// does not leave for the world. Another program's network of that subnet works.
func TestSubnetElsewhereIsRefused(t *testing.T) {
	h := newHost(t)
	sh(t, "ip -n %s route add default via 192.0.2.254", h.ns)
	s := h.state(t, "one network")
	s.Elsewhere = []netip.Prefix{netipPrefix("10.65.0.0/24"), netipPrefix("2001:db8:65::/64")}
	h.set(t, s)
	for _, to := range []string{"10.65.0.5:80", "[2001:db8:65::5]:80"} {
		start := time.Now()
		if err := h.dial(t, to); !errors.Is(err, unix.EACCES) || time.Since(start) > time.Second {
			t.Errorf("%s after %v: %v, want prohibited at once", to, time.Since(start), err)
		}
	}
	for _, route := range []string{"10.65.0.0/24", "10.65.0.0/25", "10.0.0.0/8"} {
		sh(t, "ip -n %s route add %s dev eth0", h.ns, route)
		must(t, h.repair(t))
		contains(t, sh(t, "ip -n %s route get 10.65.0.5", h.ns), "dev eth0")
		sh(t, "ip -n %s route del %s dev eth0", h.ns, route)
	}
	must(t, h.repair(t))
	contains(t, sh(t, "ip -n %s route show type prohibit", h.ns), "10.65.0.0/24")
	s.Elsewhere = nil
	h.set(t, s)
	if left := sh(t, "ip -n %s route show type prohibit", h.ns); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// repair is what a pass of Run does: the kernel is read and made as wanted.
func (h *host) repair(t *testing.T) error {
	t.Helper()
	if _, _, err := h.o.Verify(t.Context()); err != nil {
		return err
	}
	return h.o.Set(t.Context(), h.last)
}

func (h *host) dial(t *testing.T, to string) (err error) {
	t.Helper()
	must(t, netns.Within(h.k.host.ns, func() error {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", to, 5*time.Second); err == nil {
			c.Close()
		}
		return nil
	}))
	return err
}
