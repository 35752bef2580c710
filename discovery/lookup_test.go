package discovery

import (
	"errors"
	"slices"
	"testing"
)

var lookupThings = []Keys{
	{Name: "web", Aliases: []string{"www", "front"}, IDs: []string{"b0a1c2d3", "feed00aa11"}},
	{Name: "db", Aliases: []string{"front"}, IDs: []string{"b0a1ffff"}},
	{Name: "db", IDs: []string{"00112233"}},
	{Name: "abcd", IDs: []string{"44556677"}},
	{Name: "cache", Aliases: []string{"beef"}, IDs: []string{"abcd0001"}},
	{Name: "www", IDs: []string{"beef0002"}},
	{Name: "55667788", IDs: []string{"99887766"}},
	{Name: "queue", IDs: []string{"55667788", "cni-12345"}},
	{IDs: []string{"99887755", ""}},
}

func itself(k Keys) Keys { return k }

func TestFind(t *testing.T) {
	for _, c := range []struct {
		key, want string // the first id of what is found
		err       error
		why       string
	}{
		{"cache", "abcd0001", nil, "a name"},
		{"CACHE", "abcd0001", nil, "a name in upper case"},
		{"44556677", "44556677", nil, "a whole id"},
		{"FEED00AA11", "b0a1c2d3", nil, "the second id, in upper case"},
		{"4455", "44556677", nil, "the start of an id"},
		{"feed0", "b0a1c2d3", nil, "the start of the second id"},
		{"beef", "abcd0001", nil, "an alias wins over the start of an id"},
		{"www", "beef0002", nil, "a name wins over an alias"},
		{"abcd", "44556677", nil, "a name wins over the start of an id"},
		{"55667788", "55667788", nil, "a whole id wins over a name, as in Docker"},
		{"cni-12345", "55667788", nil, "a whole id with other letters than hex digits"},
		{"cni-", "", ErrNotFound, "not the start of one: its digits are not hex"},
		{"b", "", ErrNotFound, "one digit is not the start of an id"},
		{"b0a", "", ErrNotFound, "nor are three"},
		{"we", "", ErrNotFound, "nor is the start of a name a name"},
		{"b0a1", "", ErrAmbiguous, "the start of two ids"},
		{"b0a1f", "b0a1ffff", nil, "one digit more"},
		{"db", "", ErrAmbiguous, "two have the name"},
		{"front", "", ErrAmbiguous, "two have the alias"},
		{"", "", ErrNotFound, "the empty word calls nothing, not even the thing without a name"},
	} {
		got, err := Find(lookupThings, c.key, itself)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%q: error %v, want %v: %s", c.key, err, c.err, c.why)
			continue
		}
		if err == nil && got.IDs[0] != c.want {
			t.Errorf("%q is %v, want %s: %s", c.key, got, c.want, c.why)
		}
	}
}

func TestFindNamesTheCandidates(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{"b0a1", "b0a1: more than one fits: web (b0a1c2d3), db (b0a1ffff)"},
		{"9988", "9988: more than one fits: 55667788 (99887766), 99887755"},
		{"nothing", "nothing: not found"},
	} {
		if _, err := Find(lookupThings, c.key, itself); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// A container on two networks is two endpoints of one name: its caller accepts
// both.
func TestFindAllKeepsTheOrder(t *testing.T) {
	got := FindAll(lookupThings, "db", itself)
	if len(got) != 2 || got[0].IDs[0] != "b0a1ffff" || got[1].IDs[0] != "00112233" {
		t.Errorf("found %v", got)
	}
	all := slices.Clone(lookupThings)
	if got := FindAll(all, "no such", itself); got != nil {
		t.Errorf("found %v, want nothing", got)
	}
	if !slices.EqualFunc(all, lookupThings, func(a, b Keys) bool { return a.String() == b.String() }) {
		t.Error("the list was changed")
	}
}
