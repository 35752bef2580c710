package api

import (
	"strconv"
	"time"
)

// ParseTime reads a time as ParseUntil does; its error names the key.
func ParseTime(key, s string, now time.Time) (time.Time, error) {
	t, err := ParseUntil(s, now)
	if err != nil {
		return t, Errorf(KindMisuse, "%s %s: no time: give a duration back such as 1h, or a date and time such as 2026-01-02T15:04:05", key, s).
			WithHint("agentctl events --since 1h")
	}
	return t, nil
}

// ParseUntil reads a PruneRequest's Until as Docker does: a duration back from
// now, seconds since 1970, or a date and time, in this host's zone if it names
// none. Its error is misuse.
func ParseUntil(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.UnixMilli(int64(sec * 1000)), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, Errorf(KindMisuse, "until=%s is no time", s).
		WithHint("agentctl network prune --filter until=24h")
}
