package agenttest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// limits are how large a room may be: what is above them can be read by nobody in
// one go. They hold for the code that runs, not for tests and what helps them.
var limits = map[string]int{
	"methods":           40, // of a type
	"fields":            20, // of a struct, its own ones
	"interface methods": 8,  // with those of the interfaces in it
	"lines":             400,
}

// exception lets one room be larger than its limit, up to what it has today.
type exception struct {
	measure, what string
	now           int
	why           string
}

// exceptions have a row for each room above its limit. A row that is needed no more
// is a failure, so that the list only tells what is so.
var exceptions = []exception{
	{"interface methods", "agent/api.Service", 30, "a method for each call of the API: what implements it is cut, the contract is one"},
	{"fields", "agent/config.raw", 27, "a field for each key of the file, and nothing else"},

	{"interface methods", "agent.Leases", 11, "the composition's: endpoints, networks and the loop each see two or three of them"},
	{"interface methods", "agent.Overlay", 21, "the composition's: endpoints, the loop and the tunnel each see one to four of them"},
	{"interface methods", "agent.Directory", 14, "the composition's: endpoints, membership, the tunnel and status each see one to three of them"},

	{"interface methods", "overlay.Kernel", 15, "one boundary to one system: Overlay needs all of it, and one fake stands in for it"},
}

// TestRoomsAreSmall also prints the figures by which two versions of the code are
// compared: go test ./agent/agenttest -run Rooms -v.
func TestRoomsAreSmall(t *testing.T) {
	m := measure(t, "../..", strings.TrimSuffix(module, "/"))
	if len(m.packages) < 5 || len(m.rooms) < 50 {
		t.Fatalf("%d packages with %d types and files: this test would see nothing", len(m.packages), len(m.rooms))
	}
	for _, problem := range unfit(m.rooms, limits, exceptions) {
		t.Error(problem)
	}
	t.Logf("the figures:\n%s", m)
}

// unfit are the rooms that are too large, and the rows that say what is not so.
func unfit(rooms []room, limits map[string]int, exceptions []exception) (problems []string) {
	used := map[int]bool{}
	for _, r := range rooms {
		if r.value <= limits[r.measure] {
			continue
		}
		i := slices.IndexFunc(exceptions, func(e exception) bool { return e.measure == r.measure && e.what == r.what })
		switch {
		case i < 0:
			problems = append(problems, fmt.Sprintf("%s: %d %s, at most %d: split it by what it owns", r.what, r.value, r.measure, limits[r.measure]))
			continue
		case r.value > exceptions[i].now:
			problems = append(problems, fmt.Sprintf("%s: %d %s, %d were the exception: it grows", r.what, r.value, r.measure, exceptions[i].now))
		}
		used[i] = true
	}
	for i, e := range exceptions {
		if !used[i] {
			problems = append(problems, fmt.Sprintf("%s: %s are within the limit of %d, or gone: delete the exception", e.what, e.measure, limits[e.measure]))
		}
		if e.why == "" {
			problems = append(problems, fmt.Sprintf("%s: %s: the exception has no reason", e.what, e.measure))
		}
	}
	return problems
}

func TestUnfitRoomsAreFound(t *testing.T) {
	limits := map[string]int{"methods": 2}
	rooms := []room{{"methods", "a.Small", 2}, {"methods", "a.Large", 3}}
	for _, tt := range []struct {
		name       string
		exceptions []exception
		want       string // in the only problem; empty: there is none
	}{
		{"without a row", nil, "a.Large: 3 methods, at most 2"},
		{"with its row", []exception{{"methods", "a.Large", 3, "why"}}, ""},
		{"shrunk, yet not enough", []exception{{"methods", "a.Large", 4, "why"}}, ""},
		{"grown beyond its row", []exception{{"methods", "a.Large", 2, "why"}}, "it grows"},
		{"a row without a reason", []exception{{"methods", "a.Large", 3, ""}}, "has no reason"},
		{"a row of what fits", []exception{{"methods", "a.Large", 3, "why"}, {"methods", "a.Small", 3, "why"}}, "a.Small: methods are within the limit"},
		{"a row of what is gone", []exception{{"methods", "a.Large", 3, "why"}, {"methods", "b.Gone", 9, "why"}}, "b.Gone: methods are within the limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := unfit(rooms, limits, tt.exceptions)
			if (tt.want == "") != (len(got) == 0) || len(got) > 1 || len(got) == 1 && !strings.Contains(got[0], tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// String is a table of the largest rooms.
func (m measures) String() string {
	var b strings.Builder
	largest := func(measure string, n int) {
		of := slices.DeleteFunc(slices.Clone(m.rooms), func(r room) bool { return r.measure != measure })
		slices.SortStableFunc(of, func(a, b room) int { return b.value - a.value })
		for _, r := range of[:min(n, len(of))] {
			fmt.Fprintf(&b, "%6d %s %s\n", r.value, measure, r.what)
		}
	}
	types := slices.SortedStableFunc(maps.Keys(m.types), func(a, b string) int {
		x, y := m.types[a], m.types[b]
		return cmp.Or(y[0]+y[1]-x[0]-x[1], strings.Compare(a, b))
	})
	for _, name := range types[:min(5, len(types))] {
		fmt.Fprintf(&b, "%3d/%-2d methods/fields %s\n", m.types[name][0], m.types[name][1], name)
	}
	largest("interface methods", 3)
	over := 0
	for _, r := range m.rooms {
		if r.measure == "lines" && r.value > limits["lines"] {
			over++
		}
	}
	fmt.Fprintf(&b, "%6d files of more than %d lines\n", over, limits["lines"])
	names := slices.SortedFunc(maps.Keys(m.packages), func(a, b string) int {
		return cmp.Or(m.packages[b].lines-m.packages[a].lines, strings.Compare(a, b))
	})
	for _, name := range names {
		fmt.Fprintf(&b, "%6d lines %s\n", m.packages[name].lines, name)
	}
	chain := m.chain()
	fmt.Fprintf(&b, "%6d import depth: %s\n", len(chain), strings.Join(chain, " -> "))
	return b.String()
}
