package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/tunnel/tunneltest"
	"github.com/weft-net/weft/overlay"
)

// The networks' MTU follows what passes between two hosts, on both and in every device;
// the probe network's does not, or it would never show that more passes again.
func TestFlowMTUFollowsTheProofs(t *testing.T) {
	one, two := pair(t)
	for _, h := range []*flowHost{one, two} {
		if _, err := h.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web-" + h.name}); err != nil {
			t.Fatal(err)
		}
	}
	one.wire.Lose(func(_, _ overlay.MAC, at tunneltest.Place, payload []byte) bool {
		return at == tunneltest.Between && len(payload)+50 > 1400
	})
	for _, h := range []*flowHost{one, two} {
		h.within(40*time.Second, "the MTU is lower", func() error {
			n, err := h.Network(t.Context(), "blue")
			if err != nil || n.MTU != 1350 {
				return fmt.Errorf("mtu %d, %w", n.MTU, err)
			}
			return nil
		})
		h.eventually("its devices have it", func() error {
			for _, o := range h.objects() {
				l, ok := o.(overlay.Link)
				switch want := 1350; {
				case !ok:
				case l.Name == overlay.VXLANName(1) && l.MTU != 1450:
					return fmt.Errorf("%s: mtu %d, want the device's 1450", l.Name, l.MTU)
				case l.VNI != 0 && l.Name != overlay.VXLANName(1) && l.MTU != want:
					return fmt.Errorf("%s: mtu %d, want %d", l.Name, l.MTU, want)
				}
			}
			return nil
		})
		h.within(40*time.Second, "status warns", func() error {
			if c := h.check("tunnel"); c.State != api.CheckWarn || !strings.Contains(c.Detail, "of 1400 they do") {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
		members, err := h.Members(t.Context())
		if err != nil || len(members) != 2 {
			t.Fatalf("%+v, %v", members, err)
		}
		for _, m := range members {
			if (m.Tunnel == "ok") != (m.Name != h.name) {
				t.Errorf("%s: %+v", h.name, m)
			}
		}
		began := time.Now()
		proofs, err := h.Proofs(t.Context(), true)
		if err != nil || len(proofs) != 1 || proofs[0].MTU != 1400 || proofs[0].Size != "ok" || proofs[0].At.Before(began) || !proofs[0].Shares {
			t.Errorf("%s: %+v, %v", h.name, proofs, err)
		}
	}
}
