package networks

import (
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// Kept is the condition under which a prune request leaves a network alone.
func Kept(r api.PruneRequest, now time.Time) (func(discovery.Network) bool, error) {
	var before time.Time // zero: whenever
	if r.Until != "" {
		var err error
		if before, err = api.ParseUntil(r.Until, now); err != nil {
			return nil, err
		}
	}
	return func(n discovery.Network) bool {
		if !before.IsZero() && !n.Created.Before(before) {
			return true
		}
		for _, l := range r.Labels {
			if !hasLabel(n.Labels, l) {
				return true
			}
		}
		for _, l := range r.NotLabels {
			if hasLabel(n.Labels, l) {
				return true
			}
		}
		return false
	}, nil
}

// hasLabel reports whether labels hold KEY, or KEY=VALUE.
func hasLabel(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}
