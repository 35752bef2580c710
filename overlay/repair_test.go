package overlay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// repairing is run with what it repairs.
func repairing(t *testing.T) (*overlaytest.Kernel, *overlay.Overlay, chan overlay.Repair) {
	k, o := newOverlay()
	told := make(chan overlay.Repair, 100)
	o.OnRepair(func(r overlay.Repair) { told <- r })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
	return k, o, told
}

// aRoute is one that the state wants.
func aRoute(t *testing.T, k *overlaytest.Kernel) overlay.Object {
	all, err := k.List(t.Context())
	must(t, err)
	for _, o := range all {
		if r, ok := o.(overlay.Route); ok {
			return r
		}
	}
	t.Fatal("the state has no route")
	return nil
}

func TestWhatIsRepairedIsToldAsCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o, told := repairing(t)
		must(t, o.Set(t.Context(), state(t, "one network")))
		time.Sleep(2 * time.Minute)
		if len(told) > 0 {
			t.Fatalf("nothing was changed, and repaired: %+v", <-told)
		}
		route := aRoute(t, k)
		k.Remove(route.Key())
		time.Sleep(5 * time.Second)
		r := <-told
		if r.Objects != 1 || r.Kinds["route"] != 1 || len(r.Commands) != 1 || r.Commands[0] != overlay.Command(route, false) || len(r.Quarrels) > 0 {
			t.Errorf("%+v, want the command of %s", r, route)
		}
		k.Remove(route.Key())
		_, _, err := o.Verify(t.Context()) // which reads the kernel as it is
		must(t, err)
		must(t, o.Set(t.Context(), state(t, "one network")))
		if len(told) != 1 {
			t.Errorf("after a look: repaired %d times", len(told))
		} else {
			<-told
		}
		time.Sleep(2 * time.Minute)
		if len(told) > 0 {
			t.Errorf("repaired once more: %+v", <-told)
		}
	})
}

// What the agent itself puts and removes, and what could not be made before, is no
// drift.
func TestProgrammingIsNoRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o, told := repairing(t)
		broken := true
		k.Fail = func(o overlay.Object, _ bool) error {
			if _, ok := o.(overlay.Route); ok && broken {
				return context.DeadlineExceeded
			}
			return nil
		}
		if err := o.Set(t.Context(), state(t, "one network")); err == nil {
			t.Fatal("no error")
		}
		time.Sleep(time.Second)
		broken = false
		time.Sleep(5 * time.Minute)
		for _, s := range overlaytest.States(vtep) {
			must(t, o.Set(t.Context(), s.State))
			time.Sleep(2 * time.Minute)
		}
		if len(told) > 0 {
			t.Errorf("%+v", <-told)
		}
	})
}

func TestAQuarrelIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, o, told := repairing(t)
		must(t, o.Set(t.Context(), state(t, "one network")))
		route := aRoute(t, k)
		quarrels, repairs := 0, 0
		for range 20 {
			k.Remove(route.Key())
			time.Sleep(5 * time.Second)
			for len(told) > 0 {
				r := <-told
				repairs += r.Objects
				quarrels += len(r.Quarrels)
			}
		}
		if repairs != 20 || quarrels != 1 {
			t.Errorf("%d repairs, %d quarrels", repairs, quarrels)
		}
	})
}
