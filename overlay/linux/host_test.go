package linux

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// host is one simulated host: a network namespace with an underlay device, and
// a fabric of its own.
type host struct {
	ns, fabric string
	vtep       netip.Addr
	k          *Kernel
	o          *overlay.Overlay
	last       overlay.State // that was set
}

var serial atomic.Int32

// unique is a name for a namespace or device of this test process.
func unique() string { return fmt.Sprintf("weft-t-%d-%d", os.Getpid(), serial.Add(1)) }

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8)")
	}
}

func sh(t testing.TB, format string, args ...any) string {
	t.Helper()
	out, err := try(t, format, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", fmt.Sprintf(format, args...), err, out)
	}
	return out
}

func try(t testing.TB, format string, args ...any) (string, error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	out, err := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(format, args...)).CombinedOutput()
	return string(out), err
}

// newNamespace makes a network namespace that is removed after the test.
func newNamespace(t testing.TB) string {
	t.Helper()
	name := unique()
	sh(t, "ip netns add %s", name)
	t.Cleanup(func() { try(t, "ip netns del %s", name) })
	return name
}

// newHost makes a host whose uplink is a lone veth.
func newHost(t testing.TB) *host {
	t.Helper()
	needRoot(t)
	h := &host{ns: newNamespace(t), fabric: unique(), vtep: netip.MustParseAddr("192.0.2.1")}
	sh(t, "ip -n %s link add eth0 type veth peer name far0", h.ns)
	sh(t, "ip -n %s link set far0 up; ip -n %s link set eth0 up; ip -n %s link set lo up", h.ns, h.ns, h.ns)
	sh(t, "ip -n %s addr add 192.0.2.1/24 dev eth0; ip -n %s addr add 2001:db8::1/64 dev eth0 nodad", h.ns, h.ns)
	h.open(t)
	return h
}

func (h *host) open(t testing.TB) {
	t.Helper()
	k, err := Open(Config{Fabric: h.fabric, Host: "/run/netns/" + h.ns})
	if err != nil {
		t.Fatal(err)
	}
	h.k, h.o = k, overlay.New(k, "weft", slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := k.Clean(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		k.Close()
	})
}

// in runs a command in the host's namespace.
func (h *host) in(t testing.TB, format string, args ...any) string {
	t.Helper()
	return sh(t, "ip netns exec %s %s", h.ns, fmt.Sprintf(format, args...))
}

// inFabric runs a command in the host's fabric.
func (h *host) inFabric(t testing.TB, format string, args ...any) string {
	t.Helper()
	return sh(t, "ip netns exec %s %s", h.fabric, fmt.Sprintf(format, args...))
}

func (h *host) set(t testing.TB, s overlay.State) {
	t.Helper()
	h.last = s
	must(t, h.o.Set(t.Context(), s))
}

// pair makes two hosts whose uplinks are the two ends of one veth.
func pair(t testing.TB) (a, b *host) {
	t.Helper()
	needRoot(t)
	a = &host{ns: newNamespace(t), fabric: unique(), vtep: netip.MustParseAddr("192.0.2.1")}
	b = &host{ns: newNamespace(t), fabric: unique(), vtep: netip.MustParseAddr("192.0.2.2")}
	sh(t, "ip -n %s link add eth0 type veth peer name eth0 netns %s", a.ns, b.ns)
	for _, h := range []*host{a, b} {
		sh(t, "ip -n %s link set lo up; ip -n %s link set eth0 up; ip -n %s addr add %s/24 dev eth0", h.ns, h.ns, h.ns, h.vtep)
		h.open(t)
	}
	return a, b
}

// state is a named state of overlaytest for this host.
func (h *host) state(t testing.TB, name string) overlay.State {
	t.Helper()
	for _, s := range overlaytest.States(h.vtep) {
		if s.Name == name {
			return s.State
		}
	}
	t.Fatalf("no state is named %q", name)
	return overlay.State{}
}

// attach makes a sandbox with endpoint i of Blue.
func (h *host) attach(t testing.TB, i byte) (sandbox string) {
	t.Helper()
	sandbox = newNamespace(t)
	ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(i))
	ep.Sandbox = "/run/netns/" + sandbox
	must(t, h.o.Attach(t.Context(), ep))
	return sandbox
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t testing.TB, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
