package linux

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// What somebody else made stays as it is, whatever it is called, with or without a
// network of ours.
func TestForeignDevicesAreNeverTouched(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	h.running(t)
	for _, name := range []string{"g00ab12", "b00ab12", "v00ab12", "p00ab12", "k0123456789ab", "w0123456789ab"} {
		for _, kind := range []string{"veth", "bridge"} {
			for _, ns := range []string{h.ns, h.fabric} {
				sh(t, "ip -n %s link add name %s type %s", ns, name, kind)
				sh(t, "ip -n %s link set %s up; ip -n %s addr add 198.51.100.9/24 dev %s", ns, name, ns, name)
				show := fmt.Sprintf("{ ip -n %s link show %s; ip -n %s -4 addr show %s; } 2>/dev/null", ns, name, ns, name)
				before := sh(t, "%s", show)
				h.set(t, h.state(t, "remote endpoints"))
				drift, _, err := h.o.Verify(t.Context())
				must(t, err)
				for _, d := range drift {
					t.Errorf("%s: %s %s", name, d.Kind, d.Object)
				}
				h.o = overlay.New(h.k, "weft", discard) // which reads the kernel anew
				h.set(t, h.state(t, "one network"))
				if after := sh(t, "%s", show); after != before {
					t.Errorf("before:\n%safter:\n%s", before, after)
				}
				sh(t, "ip -n %s link del %s", ns, name)
			}
		}
	}
}

// A network that needs the name of a foreign device is refused as a whole, with the
// device's name, until the device is gone.
func TestForeignDeviceInTheWayIsNamedBeforeAnythingIsMade(t *testing.T) {
	for _, row := range []struct{ name, ns string }{
		{"g001000", "HOST"}, {"b001000", "FABRIC"}, {"v001000", "FABRIC"}, {"p001000", "FABRIC"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHost(t)
			h.set(t, h.state(t, "member of no network"))
			ns := map[string]string{"HOST": h.ns, "FABRIC": h.fabric}[row.ns]
			sh(t, "ip -n %s link add name %s type veth peer name other", ns, row.name)
			before := h.devices(t)
			probe := h.state(t, "one network")
			probe.Networks = probe.Networks[1:]
			err := h.o.Set(t.Context(), probe)
			if !errors.Is(err, overlay.ErrForeign) || !strings.Contains(err.Error(), row.name+" is a veth") {
				t.Errorf("error = %v", err)
			}
			if after := h.devices(t); after != before {
				t.Errorf("made all the same:\n%s", after)
			}
			ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(9))
			ep.Sandbox = "/run/netns/" + newNamespace(t)
			if err := h.o.Attach(t.Context(), ep); !errors.Is(err, overlay.ErrForeign) || !strings.Contains(err.Error(), row.name) {
				t.Errorf("attach: %v", err)
			}
			if after := h.devices(t); after != before {
				t.Errorf("attach made:\n%s", after)
			}
			sh(t, "ip -n %s link del %s", ns, row.name)
			h.running(t)
			await(t, nil, func() bool { return len(h.o.Troubles()) == 0 })
			must(t, h.o.Attach(t.Context(), ep))
		})
	}
}

func (h *host) devices(t *testing.T) string {
	t.Helper()
	return sh(t, "{ ip -n %s -br link | sort; ip -n %s -br link | sort; } 2>/dev/null", h.ns, h.fabric)
}

// A network that carries traffic goes on when a foreign device takes the place of a
// device that was deleted.
func TestForeignDeviceDoesNotTakeANetworkAway(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	from, to := h.attach(t, 7), h.attach(t, 8)
	sh(t, "ip -n %s link del g001000 && ip -n %s link add name g001000 type bridge", h.ns, h.ns)
	h.running(t)
	await(t, nil, func() bool { return len(h.o.Troubles()) > 0 })
	contains(t, h.o.Troubles()[0].Err.Error(), "g001000 is a bridge")
	sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.8; ip netns exec %s ping -c1 -W2 10.64.0.7", from, to)
}

// What an agent left half made, without alias, is its successor's.
func TestHalfMadeDevicesAreOurs(t *testing.T) {
	h := newHost(t)
	s := h.state(t, "one network with a local endpoint")
	h.set(t, s)
	want := h.text(t)
	sh(t, "ip -n %s link set g001000 alias '' && ip -n %s link set v001000 alias '' && ip -n %s link set b001000 alias ''", h.ns, h.fabric, h.fabric)
	must(t, overlay.New(h.k, "weft", discard).Set(t.Context(), s))
	if got := h.text(t); got != want {
		t.Errorf("kernel before:\n%s\nafter:\n%s", want, got)
	}
}

// The filter knows an endpoint's port by its name.
func TestRenamedDevicesGetTheirNamesBack(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "remote endpoints"))
	sandbox := h.attach(t, 9)
	want := h.text(t)
	h.running(t)
	for _, dev := range []string{"g001000", "p001000", "v001000", "b001000", overlay.EndpointName(overlaytest.Port(9).Endpoint)} {
		ns := h.fabric
		if dev == "g001000" {
			ns = h.ns
		}
		sh(t, "ip -n %s link set %s name other", ns, dev)
		repaired(t, fmt.Sprintf("ip -n %s -br link show %s | sed 's/[@ ].*//'", ns, dev), dev+"\n")
		await(t, nil, func() bool { return h.text(t) == want })
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.1", sandbox)
	}
}

// A device that somebody moved into another namespace is made anew, also where its
// VNI or its other end stand in the way.
func TestMovedDevicesAreMadeAnew(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "remote endpoints"))
	sandbox, elsewhere := h.attach(t, 9), newNamespace(t)
	want := h.text(t)
	h.running(t)
	for _, move := range [][3]string{
		{h.ns, "g001000", elsewhere}, {h.ns, "g001000", h.fabric}, {h.fabric, "p001000", elsewhere}, {h.fabric, "p001000", h.ns}, {h.fabric, "v001000", h.ns},
	} {
		sh(t, "ip -n %s link set %s netns %s", move[0], move[1], move[2])
		await(t, nil, func() bool { return h.text(t) == want && len(h.o.Troubles()) == 0 })
		sh(t, "ip netns exec %s ping -c1 -W2 10.64.0.1", sandbox)
	}
}
