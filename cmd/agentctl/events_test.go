package main

import (
	"slices"
	"testing"

	"github.com/weft-net/weft/agent/event"
)

// The kinds that the help names are those that the agent writes down.
func TestEventKindsAreTheAgents(t *testing.T) {
	var all []string
	for _, k := range event.Kinds() {
		all = append(all, string(k))
	}
	for _, k := range slices.Concat(all, eventKinds) {
		if !slices.Contains(all, k) || !slices.Contains(eventKinds, k) {
			t.Errorf("%s is not in both lists", k)
		}
	}
}
