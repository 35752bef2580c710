package overlay_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// run is an Overlay that repairs until the test ends, in a synctest bubble.
func run(t *testing.T) (*overlaytest.Kernel, *overlay.Overlay) {
	k, o := newOverlay()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return k, o
}

func TestWhatFailsIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o := run(t)
		var tries []time.Duration
		start := time.Now()
		k.Fail = func(o overlay.Object, _ bool) error {
			if _, ok := o.(overlay.Route); ok {
				tries = append(tries, time.Since(start))
				return syscall.EEXIST
			}
			return nil
		}
		if err := o.Set(t.Context(), state(t, "one network")); err == nil {
			t.Fatal("no error")
		}
		for range 60 { // as the agent's loop does
			time.Sleep(5 * time.Second)
			_ = o.Set(t.Context(), state(t, "one network"))
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}
		for i := range want {
			want[i] *= time.Second
		}
		if len(tries) < len(want) {
			t.Fatalf("tried after %v, want about %v", tries, want)
		}
		for i, w := range want {
			if late := tries[i] - w; late < 0 || late > 10*time.Second {
				t.Fatalf("tried after %v, want about %v", tries, want)
			}
		}
	})
}

// A foreign route stands in the way for good. Whatever else breaks then is whole
// again within two seconds.
func TestOneObjectThatAlwaysFailsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o := run(t)
		k.Fail = func(o overlay.Object, _ bool) error {
			if _, ok := o.(overlay.Route); ok {
				return syscall.EEXIST
			}
			return nil
		}
		if err := o.Set(t.Context(), state(t, "remote endpoints")); err == nil {
			t.Fatal("no error")
		}
		want := k.String()
		for _, after := range []time.Duration{0, 5 * time.Second, time.Minute, 10 * time.Minute} {
			time.Sleep(after)
			for _, dev := range []string{"v001000", "b001000"} {
				k.Remove(overlay.LinkKey{Place: overlay.Fabric, Name: dev})
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff(want, k.String()); diff != "" {
					t.Errorf("after %v: two seconds without %s (-want +got):\n%s", after, dev, diff)
				}
			}
		}
	})
}

// What stands on a device that cannot be changed, but is there, is programmed.
func TestDeviceThatCannotBeChangedStillCarries(t *testing.T) {
	k, o := newOverlay()
	must(t, o.Set(t.Context(), state(t, "one network")))
	k.Fail = func(o overlay.Object, _ bool) error {
		if l, ok := o.(overlay.Link); ok && l.Name == "v001000" {
			return syscall.EINVAL
		}
		return nil
	}
	s := state(t, "remote endpoints")
	s.Networks[1].MTU = 1300
	if err := o.Set(t.Context(), s); err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(k.String(), "neigh replace 10.64.0.5 ") {
		t.Errorf("its entries are missing:\n%s", k)
	}
}

// What waited for something else is put as soon as that is there.
func TestWhatFailedIsTriedAgainWhenItsCauseIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o := run(t)
		fresh, whole := newOverlay()
		must(t, whole.Set(t.Context(), state(t, "one network")))
		broken := true
		k.Fail = func(o overlay.Object, _ bool) error {
			if broken && isAddrOrRoute(o) {
				return syscall.EINVAL
			}
			return nil
		}
		_ = o.Set(t.Context(), state(t, "one network"))
		time.Sleep(10 * time.Minute)
		if n := len(o.Troubles()); n != 2 {
			t.Fatalf("%d troubles, want two", n)
		}
		broken = false
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(fresh.String(), k.String()); diff != "" {
			t.Errorf("kernel (-want +got):\n%s", diff)
		}
		if n := len(o.Troubles()); n != 0 {
			t.Errorf("%d troubles are left", n)
		}
	})
}

func isAddrOrRoute(o overlay.Object) bool {
	switch o.(type) {
	case overlay.Addr, overlay.Route:
		return true
	}
	return false
}

func TestTroublesNameTheObjectAndTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o := run(t)
		k.Fail = func(o overlay.Object, _ bool) error {
			if _, ok := o.(overlay.Route); ok {
				return syscall.EEXIST
			}
			return nil
		}
		began := time.Now()
		_ = o.Set(t.Context(), state(t, "one network"))
		time.Sleep(4 * time.Second)
		all := o.Troubles()
		if len(all) != 1 {
			t.Fatalf("got %v, want one trouble", all)
		}
		one := all[0]
		if want := "ip route replace 10.64.0.0/24 dev g001000 proto 79 scope link src 10.64.0.1: file exists"; one.Err.Error() != want {
			t.Errorf("got %q, want %q", one.Err, want)
		}
		if one.Tries != 3 || !one.Since.Equal(began) || !one.Next.After(time.Now()) {
			t.Errorf("tries %d since %v, next in %v", one.Tries, time.Since(one.Since), time.Until(one.Next))
		}
		k.Fail = nil
		time.Sleep(time.Minute)
		if all := o.Troubles(); len(all) != 0 {
			t.Errorf("still there when all is well: %v", all)
		}
	})
}

// A table that the kernel does not take is one trouble, not one for each element, and
// the rest of the network is made.
func TestFailingTableIsOneTrouble(t *testing.T) {
	k, o := newOverlay()
	k.Fail = func(o overlay.Object, _ bool) error {
		switch o := o.(type) {
		case overlay.NFTable:
			return syscall.ENOENT
		case overlay.NFElement:
			t.Errorf("tried without its table: %s", o)
		}
		return nil
	}
	for range 2 {
		if err := o.Set(t.Context(), state(t, "remote endpoints")); err == nil {
			t.Fatal("no error")
		}
	}
	if n := len(o.Troubles()); n != 2 {
		t.Errorf("%d troubles, want one for each table", n)
	}
	if !strings.Contains(k.String(), "neigh replace 10.64.0.5 ") {
		t.Errorf("the rest waits:\n%s", k)
	}
}
