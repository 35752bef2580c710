package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

var update = flag.Bool("update", false, "write the golden files")

var vtep = netip.MustParseAddr("192.0.2.1")

func newOverlay() (*overlaytest.Kernel, *overlay.Overlay) {
	k := overlaytest.New()
	return k, overlay.New(k, "weft", slog.New(slog.DiscardHandler))
}

func TestStatesInAnyOrder(t *testing.T) {
	overlaytest.Walk(t, overlaytest.States(vtep), 5, func(*testing.T) overlay.Kernel { return overlaytest.New() })
}

// digest is that of a table's rules, which have golden files of their own.
var digest = regexp.MustCompile(`(?m) # \d+ rules.*$`)

func TestCommands(t *testing.T) {
	for _, s := range overlaytest.States(vtep) {
		t.Run(s.Name, func(t *testing.T) {
			k, o := newOverlay()
			if err := o.Set(t.Context(), s.State); err != nil {
				t.Fatal(err)
			}
			golden(t, s.Name, digest.ReplaceAllString(k.String(), ""))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func state(t *testing.T, name string) overlay.State {
	t.Helper()
	for _, s := range overlaytest.States(vtep) {
		if s.Name == name {
			return s.State
		}
	}
	t.Fatalf("no state is named %q", name)
	return overlay.State{}
}

// What is logged and what fails is a command as an operator types it here.
func TestCommandsNameTheFabric(t *testing.T) {
	var out bytes.Buffer
	k := overlaytest.New()
	o := overlay.New(k, "lab-1", slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	states := overlaytest.States(vtep)
	if err := o.Set(t.Context(), states[len(states)-1].State); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), " -n weft ") || strings.Contains(out.String(), "netns weft ") || strings.Contains(out.String(), "exec weft ") {
		t.Errorf("logged:\n%s", &out)
	}
	for _, want := range []string{"ip -n lab-1 ", "netns lab-1 ", "ip netns exec lab-1 nft", "inet weft"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, &out)
		}
	}
	failed := &overlay.ObjectError{Object: overlay.NFTable{Place: overlay.Fabric, Family: "bridge", Name: "weft"}, Deleting: true, Err: syscall.EPERM, Fabric: "lab-1"}
	if got, want := failed.Error(), "ip netns exec lab-1 nft delete table bridge weft: operation not permitted"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFailingObjectIsNamedAndRetriedAlone(t *testing.T) {
	s := state(t, "remote endpoints")
	k0, o0 := newOverlay()
	if err := o0.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	objects, _ := k0.List(t.Context())
	for _, victim := range objects {
		if r := victim.Rank(); r == overlay.RankLink || r == overlay.RankSysctl || r == overlay.RankTable {
			continue // what stands on a link or in a table fails with it, see below
		}
		t.Run(victim.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, o := newOverlay()
				k.Fail = failing(victim)
				err := o.Set(t.Context(), s)
				if want := victim.String() + ": operation not permitted"; err == nil || err.Error() != want {
					t.Fatalf("error = %v, want %s", err, want)
				}
				if !errors.Is(err, os.ErrPermission) {
					t.Errorf("error %v is not os.ErrPermission", err)
				}
				k.Fail = nil
				k.Commands()
				time.Sleep(time.Second) // its back-off
				if err := o.Set(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{victim.String()}, k.Commands()); diff != "" {
					t.Errorf("commands of the second try (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(k0.String(), k.String()); diff != "" {
					t.Errorf("kernel (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// failing is a kernel that refuses one object.
func failing(victim overlay.Object) func(overlay.Object, bool) error {
	return func(o overlay.Object, _ bool) error {
		if o == victim {
			return syscall.EPERM
		}
		return nil
	}
}

func TestFailingLinkIsOneError(t *testing.T) {
	k, o := newOverlay()
	k.Fail = func(o overlay.Object, _ bool) error {
		if l, ok := o.(overlay.Link); ok && l.Kind == overlay.VXLAN && l.VNI == 4096 {
			return overlay.ErrPortTaken
		}
		return nil
	}
	err := o.Set(t.Context(), state(t, "remote endpoints"))
	if !errors.Is(err, overlay.ErrPortTaken) {
		t.Fatalf("error = %v", err)
	}
	if n := strings.Count(err.Error(), "\n"); n != 0 {
		t.Errorf("%d errors beyond that of the device:\n%v", n, err)
	}
	if !strings.Contains(k.String(), "type bridge") {
		t.Error("the bridge was not made although only the tunnel device failed")
	}
}

func TestNothingToDoTouchesNothing(t *testing.T) {
	k, o := newOverlay()
	s := state(t, "remote endpoints")
	if err := o.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	k.Commands()
	lists := k.Lists()
	if err := o.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if c := k.Commands(); len(c) > 0 {
		t.Errorf("an equal state made commands: %q", c)
	}
	if k.Lists() != lists {
		t.Error("an equal state read the kernel again")
	}
}

func TestIncompleteStateSweepsNothing(t *testing.T) {
	k, o := newOverlay()
	if err := o.Set(t.Context(), state(t, "remote endpoints")); err != nil {
		t.Fatal(err)
	}
	before := k.String()
	restarted := overlay.New(k, "weft", slog.New(slog.DiscardHandler))
	s := state(t, "member of no network")
	s.Complete = false
	if err := restarted.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, k.String()); diff != "" {
		t.Errorf("kernel (-before +after):\n%s", diff)
	}
}

func TestLocalAddressSupersedesRemoteWhileIncomplete(t *testing.T) {
	k, o := newOverlay()
	if err := o.Set(t.Context(), state(t, "remote endpoints")); err != nil {
		t.Fatal(err)
	}
	s := state(t, "one of them moved here")
	s.Complete = false
	if err := o.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []string{"neigh replace 10.64.0.6 ", "fdb replace 0e:01:0a:40:00:06 dev v"} {
		if strings.Contains(k.String(), stale) {
			t.Errorf("the tunnel device still answers for the local address: %s", stale)
		}
	}
	if !strings.Contains(k.String(), "neigh replace 10.64.0.5 ") {
		t.Error("a remote's entry is gone")
	}
}

func TestAttach(t *testing.T) {
	blue := overlaytest.Blue(vtep)
	ep := overlaytest.Endpoint(blue, overlaytest.Port(6))

	t.Run("silences the tunnel device first", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "remote endpoints")))
		k.Commands()
		must(t, o.Attach(t.Context(), ep))
		c := k.Commands()
		if len(c) < 3 || !strings.Contains(c[0], " del ") || !strings.Contains(c[1], " del ") {
			t.Errorf("commands do not begin with the deletion of two entries: %q", c)
		}
		if want := "bridge -n weft fdb replace 0e:01:0a:40:00:06 dev k060000000000 master static"; c[len(c)-1] != want {
			t.Errorf("last command %q, want %q", c[len(c)-1], want)
		}
	})
	t.Run("outlives a state that does not know it", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "remote endpoints")))
		must(t, o.Attach(t.Context(), ep))
		before := k.String()
		must(t, o.Set(t.Context(), state(t, "remote endpoints")))
		if diff := cmp.Diff(before, k.String()); diff != "" {
			t.Errorf("kernel (-before +after):\n%s", diff)
		}
	})
	t.Run("makes no difference to the state that knows it", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "remote endpoints")))
		must(t, o.Attach(t.Context(), ep))
		must(t, o.Set(t.Context(), state(t, "one of them moved here")))
		if c := k.Commands(); strings.Contains(strings.Join(c[len(c)-1:], ""), "neigh") {
			t.Errorf("commands after the attachment: %q", c)
		}
	})
	t.Run("undone when it fails", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "one network")))
		before := k.String()
		k.Fail = func(o overlay.Object, _ bool) error {
			if f, ok := o.(overlay.BridgeFDB); ok && f.Dev == overlay.EndpointName(ep.ID) {
				return syscall.ENOSPC
			}
			return nil
		}
		if err := o.Attach(t.Context(), ep); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("error = %v", err)
		}
		if diff := cmp.Diff(before, k.String()); diff != "" {
			t.Errorf("kernel (-before +after):\n%s", diff)
		}
	})
	t.Run("again after its sandbox was lost", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "one network")))
		k.AddSandbox("/run/netns/web", 1)
		in := ep
		in.Sandbox = "/run/netns/web"
		must(t, o.Attach(t.Context(), in))
		before := k.String()
		k.RemoveSandbox("/run/netns/web")
		k.AddSandbox("/run/netns/web", 2)
		must(t, o.Attach(t.Context(), in))
		if diff := cmp.Diff(before, k.String()); diff != "" {
			t.Errorf("kernel (-before +after):\n%s", diff)
		}
	})
	t.Run("needs its network", func(t *testing.T) {
		_, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "member of no network")))
		if err := o.Attach(t.Context(), ep); !errors.Is(err, overlay.ErrNoNetwork) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("detached twice", func(t *testing.T) {
		k, o := newOverlay()
		must(t, o.Set(t.Context(), state(t, "one network")))
		before := k.String()
		must(t, o.Attach(t.Context(), ep))
		must(t, o.Detach(t.Context(), ep.ID))
		must(t, o.Detach(t.Context(), ep.ID))
		if diff := cmp.Diff(before, k.String()); diff != "" {
			t.Errorf("kernel (-before +after):\n%s", diff)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesEachDifferenceAndRepairsNone(t *testing.T) {
	k, o := newOverlay()
	must(t, o.Set(t.Context(), state(t, "remote endpoints")))
	gone := overlay.Neigh{Dev: "v001000", Addr: overlaytest.Addr(5), MAC: overlaytest.MAC(5)}
	wrong := overlay.FDB{Dev: "v001000", MAC: overlaytest.MAC(6), VTEP: overlaytest.Peer(vtep, 9)}
	extra := overlay.Neigh{Dev: "v001000", Addr: overlaytest.Addr(99), MAC: overlaytest.MAC(99)}
	k.Remove(gone.Key())
	k.Inject(wrong)
	k.Inject(extra)
	k.Commands()
	got, checked, err := o.Verify(t.Context())
	must(t, err)
	if have, _ := k.List(t.Context()); checked != len(have) {
		t.Errorf("%d objects checked, the kernel has as many as are wanted: %d", checked, len(have))
	}
	right := wrong
	right.VTEP = overlaytest.Peer(vtep, 2)
	want := map[overlay.Drift]bool{
		{gone, overlay.DriftMissing, "blue", gone.String()}:     true,
		{right, overlay.DriftDifferent, "blue", right.String()}: true,
		{extra, overlay.DriftExtra, "blue", extra.Deletion()}:   true,
	}
	for _, d := range got {
		if !want[d] {
			t.Errorf("unexpected drift: %+v", d)
		}
		delete(want, d)
	}
	for d := range want {
		t.Errorf("drift not found: %s %s", d.Kind, d.Object)
	}
	if c := k.Commands(); len(c) > 0 {
		t.Errorf("verify changed the kernel: %q", c)
	}
	must(t, o.Repair(t.Context()))
	if got, _, err := o.Verify(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("after the repair: %v, %v", got, err)
	}
}

// A repair that a person asks for waits for no back-off.
func TestRepairTriesAtOnce(t *testing.T) {
	k, o := newOverlay()
	must(t, o.Set(t.Context(), state(t, "remote endpoints")))
	gone := overlay.Neigh{Dev: "v001000", Addr: overlaytest.Addr(5), MAC: overlaytest.MAC(5)}
	k.Remove(gone.Key())
	var refuses error = errors.New("refused")
	k.Fail = func(o overlay.Object, _ bool) error {
		if o.Key() == gone.Key() {
			return refuses
		}
		return nil
	}
	for range 5 {
		if err := o.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("repaired what the kernel refuses: %v", err)
		}
	}
	refuses = nil
	must(t, o.Repair(t.Context()))
}

func TestRunRepairs(t *testing.T) {
	entry := overlay.Neigh{Dev: "v001000", Addr: overlaytest.Addr(5), MAC: overlaytest.MAC(5)}
	for _, c := range []struct {
		name   string
		damage func(k *overlaytest.Kernel)
	}{
		{"a deleted entry", func(k *overlaytest.Kernel) { k.Remove(entry.Key()) }},
		{"a deleted device with all its entries", func(k *overlaytest.Kernel) {
			k.Remove(overlay.LinkKey{Place: overlay.Fabric, Name: "v001000"})
		}},
		{"an entry too many", func(k *overlaytest.Kernel) {
			k.Inject(overlay.Neigh{Dev: "v001000", Addr: overlaytest.Addr(99), MAC: overlaytest.MAC(9)})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, o := newOverlay()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- o.Run(ctx) }()
				must(t, o.Set(ctx, state(t, "remote endpoints")))
				want := k.String()
				c.damage(k)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff(want, k.String()); diff != "" {
					t.Errorf("kernel two seconds later (-want +got):\n%s", diff)
				}
				cancel()
				must(t, <-done)
			})
		})
	}
}

func TestRunEndsItsOwnEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o := newOverlay()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		must(t, o.Set(ctx, state(t, "remote endpoints")))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := k.Lists(); n > 3 {
			t.Errorf("the kernel was read %d times in ten quiet seconds", n)
		}
		cancel()
		must(t, <-done)
	})
}

// An endpoint that lost its address to another host is left out of the States that
// follow: this host's endpoints reach the winner, as all others do.
func TestEndpointThatLostItsAddressIsNotProgrammed(t *testing.T) {
	k, o := newOverlay()
	blue, port := overlaytest.Blue(vtep), overlaytest.Port(6)
	winner := overlay.Remote{Addr: port.Addrs[0], MAC: port.MAC, VTEP: overlaytest.Peer(vtep, 2)}
	with := func(ports []overlay.Port, remotes ...overlay.Remote) overlay.State {
		s := state(t, "remote endpoints")
		s.Networks = slices.Clone(s.Networks)
		for i := range s.Networks {
			if n := &s.Networks[i]; n.VNI == blue.VNI {
				n.Ports, n.Remotes = ports, append(slices.Clone(n.Remotes), remotes...)
			}
		}
		return s
	}
	set := func(s overlay.State) {
		t.Helper()
		if err := o.Set(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	entry := func() bool { return strings.Contains(k.String(), "neigh replace "+port.Addrs[0].String()+" ") }
	set(with(nil))
	if err := o.Attach(t.Context(), overlaytest.Endpoint(blue, port)); err != nil {
		t.Fatal(err)
	}
	set(with(nil, winner)) // made before the endpoint was attached
	if entry() {
		t.Error("an endpoint that was just attached gave way to a remote one")
	}
	set(with([]overlay.Port{port}))
	set(with(nil, winner))
	if !entry() {
		t.Errorf("the winner is not programmed:\n%s", k)
	}
}

// A host that forwards IPv6 before its devices accept router advertisements all the
// same has lost the default route that it got by one.
func TestIPv6IsForwardedLast(t *testing.T) {
	k, o := newOverlay()
	if err := o.Set(t.Context(), state(t, "with IPv6")); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(k.Commands(), "\n")
	accept, forward := strings.Index(all, "conf.eth0.accept_ra=2"), strings.Index(all, "conf.all.forwarding=1")
	if accept < 0 || forward < accept {
		t.Errorf("accept_ra at %d, forwarding at %d of\n%s", accept, forward, all)
	}
}
