package linux

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

// BenchmarkProgram10k programs 10 000 remotes, 20 000 entries, and lets iproute2 do
// the same in its batch mode: ip for the neighbours, bridge for the FDB.
func BenchmarkProgram10k(b *testing.B) {
	h := newHost(b)
	s := h.manyRemotes(many)
	empty := s
	empty.Networks = []overlay.Network{s.Networks[0]}
	empty.Networks[0].Remotes = nil
	h.set(b, empty)
	entries := entriesOf(s)
	neighbours, fdb := batches(b, s)
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		must(b, h.k.Put(b.Context(), entries...))
		ours := time.Since(start)
		b.StopTimer()
		must(b, h.k.Delete(b.Context(), entries...))
		start = time.Now()
		sh(b, "ip -n %s -batch %s; bridge -n %s -batch %s", h.fabric, neighbours, h.fabric, fdb)
		ratios = append(ratios, ours.Seconds()/time.Since(start).Seconds())
		must(b, h.k.Delete(b.Context(), entries...))
		b.StartTimer()
	}
	slices.Sort(ratios)
	b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(ratios[len(ratios)/2], "of-iproute2")
}

// batches are what ip and bridge read to make a state's entries.
func batches(b *testing.B, s overlay.State) (neighbours, fdb string) {
	b.Helper()
	var ip, bridge strings.Builder
	for _, r := range s.Networks[0].Remotes {
		fmt.Fprintf(&ip, "neigh replace %s lladdr %s dev v001000 nud permanent\n", r.Addr, r.MAC)
		fmt.Fprintf(&bridge, "fdb replace %s dev v001000 dst %s self static\n", r.MAC, r.VTEP)
	}
	neighbours, fdb = b.TempDir()+"/neighbours", b.TempDir()+"/fdb"
	must(b, os.WriteFile(neighbours, []byte(ip.String()), 0o600))
	must(b, os.WriteFile(fdb, []byte(bridge.String()), 0o600))
	return neighbours, fdb
}

// BenchmarkReconcileIdle10k reads the kernel and finds nothing to do; iproute2 only
// lists the same entries.
func BenchmarkReconcileIdle10k(b *testing.B) {
	h := newHost(b)
	s := h.manyRemotes(many)
	h.set(b, s)
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		drift, _, err := h.o.Verify(b.Context())
		ours := time.Since(start)
		must(b, err)
		if len(drift) > 0 {
			b.Fatal(drift[0].Object)
		}
		b.StopTimer()
		start = time.Now()
		sh(b, "ip -n %s neigh show >/dev/null; bridge -n %s fdb show >/dev/null", h.fabric, h.fabric)
		ratios = append(ratios, ours.Seconds()/time.Since(start).Seconds())
		b.StartTimer()
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "of-iproute2")
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
	ep.Sandbox = "/run/netns/" + newNamespace(b)
	for b.Loop() {
		must(b, h.o.Attach(b.Context(), ep))
		b.StopTimer()
		must(b, h.o.Detach(b.Context(), ep.ID))
		b.StartTimer()
	}
}

// BenchmarkQuietLook is what an idle agent does twice a second for one network.
func BenchmarkQuietLook(b *testing.B) {
	h := newHost(b)
	h.set(b, h.blueOn(false))
	h.list(b) // which finds other devices than the one before
	h.list(b)
	for b.Loop() {
		if h.k.quiet.differs() {
			b.Fatal("something changed")
		}
	}
}
