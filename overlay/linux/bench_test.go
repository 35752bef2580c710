package linux

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

const many = 10_000

// manyRemotes is Blue as a /16 with n endpoints on two members.
func (h *host) manyRemotes(n int) overlay.State {
	s := h.blueOn(false)
	blue := &s.Networks[0]
	blue.Subnets[0] = overlay.Subnet{CIDR: netip.MustParsePrefix("10.64.0.0/16"), Gateway: netip.MustParseAddr("10.64.0.1")}
	for i := range n {
		a := [4]byte{10, 64, byte(i/250) + 1, byte(i%250) + 1}
		blue.Remotes = append(blue.Remotes, overlay.Remote{
			Addr: netip.AddrFrom4(a), MAC: overlay.MAC{0x0e, 1, a[0], a[1], a[2], a[3]}, VTEP: overlaytest.Peer(h.vtep, 2+byte(i%2)),
		})
	}
	return s
}

func entriesOf(s overlay.State) (entries []overlay.Object) {
	for _, r := range s.Networks[0].Remotes {
		entries = append(entries, overlay.Neigh{Dev: "v001000", Addr: r.Addr, MAC: r.MAC},
			overlay.FDB{Dev: "v001000", MAC: r.MAC, VTEP: r.VTEP})
	}
	return entries
}

// BenchmarkProgram10k programs 10 000 remotes: 20 000 entries.
func BenchmarkProgram10k(b *testing.B) {
	h := newHost(b)
	s := h.manyRemotes(many)
	empty := s
	empty.Networks = []overlay.Network{s.Networks[0]}
	empty.Networks[0].Remotes = nil
	h.set(b, empty)
	entries := entriesOf(s)
	for b.Loop() {
		must(b, h.k.Put(b.Context(), entries...))
		b.StopTimer()
		must(b, h.k.Delete(b.Context(), entries...))
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkReconcileIdle10k reads the kernel and finds nothing to do.
func BenchmarkReconcileIdle10k(b *testing.B) {
	h := newHost(b)
	s := h.manyRemotes(many)
	h.set(b, s)
	for b.Loop() {
		drift, err := h.o.Verify(b.Context())
		must(b, err)
		if len(drift) > 0 {
			b.Fatal(drift[0].Object)
		}
	}
}

// BenchmarkSetOneChange10k is a Set in which one remote of 10 000 moved.
func BenchmarkSetOneChange10k(b *testing.B) {
	h := newHost(b)
	states := [2]overlay.State{h.manyRemotes(many), h.manyRemotes(many)}
	states[1].Networks[0].Remotes[5000].VTEP = overlaytest.Peer(h.vtep, 9)
	h.set(b, states[0])
	i := 0
	for b.Loop() {
		i++
		h.set(b, states[i%2])
	}
}

// BenchmarkPlug attaches one endpoint with address and default route.
func BenchmarkPlug(b *testing.B) {
	h := newHost(b)
	h.set(b, h.blueOn(false))
	ep := overlaytest.Endpoint(overlaytest.Blue(h.vtep), overlaytest.Port(9))
	ep.Sandbox = "/run/netns/" + netns(b)
	for b.Loop() {
		must(b, h.o.Attach(b.Context(), ep))
		b.StopTimer()
		must(b, h.o.Detach(b.Context(), ep.ID))
		b.StartTimer()
	}
}
