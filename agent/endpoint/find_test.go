package endpoint

import (
	"slices"
	"testing"

	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Fewer than four digits are no start of an id: they are a short name that is not
// there.
func TestMatchingPrefersWholeIDsThenNames(t *testing.T) {
	l := func(id byte, name, container string) journal.Local {
		return journal.Local{Endpoint: discovery.Endpoint{ID: discovery.EndpointID{id}, Name: name}, Container: container}
	}
	all := []journal.Local{l(0xab, "web", "dead01"), l(0xac, "ab", "dead02"), l(0xad, "dead01", "beef")}
	for word, want := range map[string][]string{
		"dead01": {"web"}, "ab": {"ab"}, "dead": {"web", "ab"}, "beef": {"dead01"}, "ad00": {"dead01"}, "x": nil,
		"be": nil, "ad": nil, "bee": nil, "": nil,
		"ab00000000000000": {"web"},
	} {
		var got []string
		for _, l := range Matching(all, word) {
			got = append(got, l.Endpoint.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q means %v, want %v", word, got, want)
		}
	}
}
