package api_test

import (
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

func TestUntilReadsWhatDockerReads(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"24h":                  now.Add(-24 * time.Hour),
		"1h30m":                now.Add(-90 * time.Minute),
		"1769860800":           time.Unix(1769860800, 0),
		"1769860800.5":         time.UnixMilli(1769860800500),
		"2026-01-30T12:00:00Z": time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC),
		"2026-01-30T12:00:00":  time.Date(2026, 1, 30, 12, 0, 0, 0, time.Local),
		"2026-01-30T12:00":     time.Date(2026, 1, 30, 12, 0, 0, 0, time.Local),
		"2026-01-30":           time.Date(2026, 1, 30, 0, 0, 0, 0, time.Local),
	} {
		if got, err := api.ParseUntil(s, now); err != nil || !got.Equal(want) {
			t.Errorf("until=%s is %v, %v, want %v", s, got, err, want)
		}
	}
	if _, err := api.ParseUntil("yesterday", now); api.KindOf(err) != api.KindMisuse {
		t.Errorf("until=yesterday: %v, want misuse", err)
	}
}
