package event

import (
	"slices"
	"testing"
)

func TestANilSinkTakesEvents(t *testing.T) {
	Sink(nil).Emit(Event{Kind: Forced})
}

func TestEachKindStandsInTheListOnce(t *testing.T) {
	all := Kinds()
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) || len(all) != 27 {
		t.Errorf("%d kinds: %q", len(all), all)
	}
}
