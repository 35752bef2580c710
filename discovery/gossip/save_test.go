package gossip

import (
	"testing"
	"time"
)

// 200 hosts of 50 endpoints are 630 kB, of 500 endpoints 6.3 MB.
func TestLargeTablesAreSavedLessOften(t *testing.T) {
	for size, want := range map[int]time.Duration{
		0: 500 * time.Millisecond, 60_000: 500 * time.Millisecond, 630_000: 5 * time.Second, 6_300_000: 10 * time.Second,
	} {
		if got := savePause(size); got != want {
			t.Errorf("%d bytes: a pause of %v, want %v", size, got, want)
		}
	}
}
