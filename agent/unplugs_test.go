package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
)

func TestAnAddressWaitsForItsDyingInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unplugs
		a, b := netip.MustParseAddr("10.64.0.5"), netip.MustParseAddr("10.64.0.6")
		done := u.begin([]netip.Addr{a})
		u.wait(b) // another address does not
		arrived := false
		go func() {
			u.wait(a)
			arrived = true
		}()
		synctest.Wait()
		if arrived {
			t.Error("the address was taken while its interface was there")
		}
		done()
		synctest.Wait()
		if !arrived {
			t.Error("the address still waits")
		}
		u.waitAll()
	})
}
