package endpoint

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
)

func TestAnAddressWaitsForItsDyingInterfaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unplugs
		a, b := netip.MustParseAddr("10.64.0.5"), netip.MustParseAddr("10.64.0.6")
		first, second := u.begin(discovery.Endpoint{IPv4: a}, 1), u.begin(discovery.Endpoint{IPv4: a}, 2)
		if err := u.wait(t.Context(), b); err != nil { // another address does not
			t.Error(err)
		}
		arrived := false
		go func() {
			arrived = u.wait(t.Context(), a) == nil
		}()
		second.end()
		synctest.Wait()
		if arrived {
			t.Error("the address was taken while its interface was there")
		}
		first.end()
		synctest.Wait()
		if !arrived {
			t.Error("the address still waits")
		}
		if left := u.waitAll(unplugFor); left > 0 {
			t.Errorf("%d are still waited for", left)
		}
	})
}

func TestWhoWaitsForAnInterfaceMayGiveUp(t *testing.T) {
	var u unplugs
	a := netip.MustParseAddr("10.64.0.5")
	defer u.begin(discovery.Endpoint{IPv4: a}, 1).end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.wait(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the request", err)
	}
}

// A kernel that never lets go of an interface does not keep the agent from
// ending.
func TestWaitingForInterfacesHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unplugs
		u.begin(discovery.Endpoint{}, 1)
		time.AfterFunc(time.Second, u.begin(discovery.Endpoint{}, 1).end)
		begin := time.Now()
		if left := u.waitAll(unplugFor); left != 1 || time.Since(begin) != unplugFor {
			t.Errorf("after %v %d are left, want 1 after %v", time.Since(begin), left, unplugFor)
		}
	})
}

// The next interface of a sandbox may have the name of the one that goes: it waits
// until the kernel was asked to remove that, and no longer.
func TestASandboxWaitsUntilTheKernelWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unplugs
		one := u.begin(discovery.Endpoint{}, 7)
		if err := u.waitTried(t.Context(), 8); err != nil { // another sandbox does not
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := u.waitTried(ctx, 7); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the kernel was asked: %v, want the end of the request", err)
		}
		close(one.tried)
		if err := u.waitTried(t.Context(), 7); err != nil {
			t.Errorf("the kernel refused: %v, want no wait", err)
		}
	})
}
