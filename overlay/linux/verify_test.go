package linux

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/overlay"
)

// Nobody repairs here: what is broken is listed whole, each by the command that mends
// it, and nothing else is.
func TestVerifyListsExactlyWhatIsWrong(t *testing.T) {
	h := newHost(t)
	s := h.manyRemotes(1000)
	h.set(t, s)
	want := map[string]overlay.DriftKind{}
	var neighbours, fdb strings.Builder
	for i, r := range s.Networks[0].Remotes[:200] {
		if i%2 == 0 {
			fmt.Fprintf(&neighbours, "neigh del %s dev v001000\n", r.Addr)
			want[overlay.Neigh{Dev: "v001000", Addr: r.Addr, MAC: r.MAC}.String()] = overlay.DriftMissing
			continue
		}
		fmt.Fprintf(&fdb, "fdb replace %s dev v001000 dst 192.0.2.77 self permanent\n", r.MAC)
		want[overlay.FDB{Dev: "v001000", MAC: r.MAC, VTEP: r.VTEP}.String()] = overlay.DriftDifferent
	}
	runBatch(t, h, "ip", neighbours.String())
	runBatch(t, h, "bridge", fdb.String())
	drift, checked, err := h.o.Verify(t.Context())
	must(t, err)
	if checked < 2000 || len(drift) != len(want) {
		t.Errorf("%d of %d objects differ, want %d", len(drift), checked, len(want))
	}
	for _, d := range drift {
		if kind := want[d.Object.String()]; kind != d.Kind || d.Network != "blue" {
			t.Errorf("%s %s of network %q, want %q", d.Kind, d.Object, d.Network, kind)
		}
		delete(want, d.Object.String())
	}
	must(t, h.o.Repair(t.Context()))
	if drift, _, err := h.o.Verify(t.Context()); err != nil || len(drift) > 0 {
		t.Errorf("after the repair: %v, %v", drift, err)
	}
	repaired := map[string]uint64{}
	for _, c := range h.o.Stats().Changes {
		repaired[c.Kind] = c.Repaired
	}
	if repaired["neighbour"] != 100 || repaired["fdb"] != 100 || repaired["link"] != 0 {
		t.Errorf("counted as repaired are %v, want 100 neighbour and 100 fdb", repaired)
	}
}

// runBatch runs lines of ip or bridge in the fabric.
func runBatch(t *testing.T, h *host, program, lines string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), program)
	must(t, os.WriteFile(file, []byte(lines), 0o600))
	if out, err := exec.Command(program, "-n", h.fabric, "-batch", file).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}
