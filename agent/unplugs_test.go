package agent

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
		first, second := u.begin(discovery.Endpoint{IPv4: a}), u.begin(discovery.Endpoint{IPv4: a})
		if err := u.wait(t.Context(), b); err != nil { // another address does not
			t.Error(err)
		}
		arrived := false
		go func() {
			arrived = u.wait(t.Context(), a) == nil
		}()
		second()
		synctest.Wait()
		if arrived {
			t.Error("the address was taken while its interface was there")
		}
		first()
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
	done := u.begin(discovery.Endpoint{IPv4: a})
	defer done()
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
		u.begin(discovery.Endpoint{})
		done := u.begin(discovery.Endpoint{})
		time.AfterFunc(time.Second, done)
		begin := time.Now()
		if left := u.waitAll(unplugFor); left != 1 || time.Since(begin) != unplugFor {
			t.Errorf("after %v %d are left, want 1 after %v", time.Since(begin), left, unplugFor)
		}
	})
}
