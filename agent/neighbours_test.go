package agent

import (
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
)

// A table is full for a minute after the kernel has counted that it was.
func TestOverflowOfANeighbourTableIsRemembered(t *testing.T) {
	table := overlay.NeighbourTable{Name: "arp_cache", Entries: 1024, Limit: 1024, Overflows: 7}
	w := neighbourWatch{read: func() ([]overlay.NeighbourTable, error) { return []overlay.NeighbourTable{table}, nil }}
	now := time.Now()
	full := func() bool {
		t.Helper()
		if err := w.look(now); err != nil {
			t.Fatal(err)
		}
		return w.tables(0, now)[0].Full
	}
	if full() {
		t.Error("what was counted before the first look is long ago")
	}
	table.Overflows++
	if !full() {
		t.Error("an overflow is not noticed")
	}
	now = now.Add(fullFor / 2)
	if !full() {
		t.Error("forgotten too early")
	}
	now = now.Add(fullFor)
	if full() {
		t.Error("still full")
	}
}
