package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// sorted is what a client that follows rule 9 of RFC 6724 makes of an answer: the
// longest prefix in common with its own address first, the rest as it came.
func sorted(answer []netip.Addr, asker netip.Addr) []netip.Addr {
	answer = slices.Clone(answer)
	slices.SortStableFunc(answer, func(a, b netip.Addr) int { return commonPrefix(b, asker) - commonPrefix(a, asker) })
	return answer
}

// Whether a client sorts or takes what comes first, it comes to every address equally
// often, unless one of them is on its own host.
func TestClientsAreSpread(t *testing.T) {
	const times = 3000
	asker := netip.MustParseAddr("10.64.0.5")
	for _, tt := range []struct {
		name string
		c    choice
		all  int // addresses of an answer: at most
		want int // different ones that a client which sorts comes to
	}{
		{"the default", choice{all: addrs("10.64.0.37", "10.64.0.70", "10.64.0.133")}, 2, 3},
		{"two", choice{all: addrs("10.64.0.37", "10.64.0.70")}, 2, 2},
		{"all on one host elsewhere", choice{all: addrs("10.64.0.70", "10.64.0.71", "10.64.0.72")}, 2, 3},
		{"all here", choice{all: addrs("10.64.0.6", "10.64.0.7", "10.64.0.8"), here: 3}, 2, 3},
		{"one here", choice{all: addrs("10.64.0.6", "10.64.0.37", "10.64.0.70"), here: 1}, 2, 1},
		{"two here", choice{all: addrs("10.64.0.6", "10.64.0.7", "10.64.0.70", "10.64.0.71"), here: 2}, 2, 2},
		{"one at a time, one here", choice{all: addrs("10.64.0.6", "10.64.0.37", "10.64.0.70"), here: 1, most: 1}, 1, 3},
		{"two at a time, one here", choice{all: addrs("10.64.0.6", "10.64.0.37", "10.64.0.70"), here: 1, most: 2}, 2, 3},
		{"more than there are", choice{all: addrs("10.64.0.37", "10.64.0.70"), most: 5}, 2, 1},
		{"all", choice{all: addrs("10.64.0.37", "10.64.0.70", "10.64.0.133"), most: -1}, 3, 1},
		{"IPv6", choice{all: addrs("fd00::1:1", "fd00::2:1", "fd00::8:1")}, 2, 3},
		{"a single one", choice{all: addrs("10.64.0.37")}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.asker = asker
			if tt.c.all[0].Is6() {
				tt.c.asker = netip.MustParseAddr("fd00::1:5")
			}
			firsts, sortedFirsts, given := map[netip.Addr]int{}, map[netip.Addr]int{}, map[netip.Addr]int{}
			for range times {
				answer := slices.Collect(tt.c.inTurn)
				if len(answer) == 0 || len(answer) > tt.all || len(answer) > tt.c.size() {
					t.Fatalf("%v", answer)
				}
				firsts[answer[0]]++
				sortedFirsts[sorted(answer, tt.c.asker)[0]]++
				for _, a := range answer {
					given[a]++
				}
			}
			if len(sortedFirsts) != tt.want || len(firsts) != len(tt.c.all) || len(given) != len(tt.c.all) {
				t.Errorf("who sorts comes to %v, who takes the first to %v, given are %v", sortedFirsts, firsts, given)
			}
			for a, n := range sortedFirsts {
				if n < times/tt.want*8/10 {
					t.Errorf("who sorts comes to %s %d times of %d", a, n, times)
				}
			}
		})
	}
}

// The addresses of a name are chosen by whom is asked and what the network says;
// behind _all. there are all.
func TestAnswersOfANetwork(t *testing.T) {
	for _, tt := range []struct {
		answers   int
		from      string
		name      string
		low, high int // addresses of an answer
	}{
		{0, "blue", "many", 1, 2},
		{0, "blue", "_all.many", 5, 5},
		{0, "host", "many", 1, 2},
		{3, "blue", "many.blue.weft.internal", 1, 3},
		{-1, "blue", "many", 5, 5},
		{-1, "both", "many.blue", 5, 5},
	} {
		s := lonely(t, func(_ *Config, z *Zone) {
			z.Networks[0].Answers, z.Networks[0].Names = tt.answers, nil
			for i := range 5 {
				z.Networks[0].Names = append(z.Networks[0].Names, Name{Name: "many", Addrs: addrs(fmt.Sprintf("192.0.2.%d", 30*(i+1))), Here: i == 2})
			}
		})
		here := 0
		for range 50 {
			a, err := s.Resolve(context.Background(), tt.name, "A", askers[tt.from])
			if err != nil || len(a.Values) < tt.low || len(a.Values) > tt.high {
				t.Fatalf("%+v: %v, %v", tt, a.Values, err)
			}
			if slices.Contains(a.Values, "192.0.2.90") {
				here++
			}
		}
		if tt.answers == 0 && here != 50 {
			t.Errorf("%+v: this host's endpoint is in %d of 50 answers", tt, here)
		}
	}
}
