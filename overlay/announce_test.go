package overlay_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// An address that gets another hardware address is announced, once, wherever it was
// and is; everything else is no news.
func TestOnlyNewHardwareAddressesAreAnnounced(t *testing.T) {
	with := func(remotes ...overlay.Remote) overlay.State {
		s := state(t, "one network")
		s.Networks[1].Remotes = remotes
		return s
	}
	at := func(mac, member byte) overlay.Remote {
		r := overlaytest.Remote(vtep, 6, member)
		r.MAC = overlaytest.MAC(mac)
		return r
	}
	k, o := newOverlay()
	attach := func(mac byte) func() {
		return func() {
			p := overlaytest.Port(6)
			p.MAC = overlaytest.MAC(mac)
			must(t, o.Attach(t.Context(), overlaytest.Endpoint(overlaytest.Blue(vtep), p)))
		}
	}
	set := func(remotes ...overlay.Remote) func() {
		return func() { must(t, o.Set(t.Context(), with(remotes...))) }
	}
	local := func(mac byte) overlay.State {
		s, p := with(), overlaytest.Port(6)
		p.MAC = overlaytest.MAC(mac)
		s.Networks[1].Ports = []overlay.Port{p}
		return s
	}
	detach := func() { must(t, o.Detach(t.Context(), overlaytest.Port(6).Endpoint)) }
	for _, step := range []struct {
		what string
		do   func()
		want byte // the last byte of the new hardware address; 0: none
	}{
		{"new", set(at(6, 2)), 0},
		{"to another member", set(at(6, 3)), 0},
		{"another", set(at(60, 3)), 60},
		{"gone", set(), 0},
		{"back", set(at(60, 2)), 0},
		{"gone again", set(), 0},
		{"back as another", set(at(61, 2)), 61},
		{"gone for here", set(), 0},
		{"here as another", attach(62), 62},
		{"gone from here", detach, 0},
		{"here again", attach(62), 0},
		{"gone from here again", detach, 0},
		{"elsewhere as another", set(at(63, 2)), 63},
		{"here instead", attach(64), 64},
		{"here in the state", func() { must(t, o.Set(t.Context(), local(64))) }, 0},
		{"out of the state", set(), 0},
		{"and detached", detach, 0},
		{"here with one more", attach(65), 65},
	} {
		k.Commands()
		step.do()
		got := slices.DeleteFunc(k.Commands(), func(c string) bool { return !strings.Contains(c, "arping") })
		var want []string
		if step.want != 0 {
			want = []string{overlay.Announcement{VNI: 4096, Addr: overlaytest.Addr(6), MAC: overlaytest.MAC(step.want)}.String()}
		}
		if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
}
