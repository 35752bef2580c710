package linux

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

func TestStatesInAnyOrder(t *testing.T) {
	needRoot(t)
	for name, vtep := range map[string]string{"IPv4 underlay": "192.0.2.1", "IPv6 underlay": "2001:db8::1"} {
		t.Run(name, func(t *testing.T) {
			overlaytest.Walk(t, overlaytest.States(netip.MustParseAddr(vtep)), 2, func(t *testing.T) overlay.Kernel {
				return newHost(t).k
			})
		})
	}
}
