package agenttest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Pairs is how many times a comparison measures both sides, one after the
// other, so that a change of the machine's mood meets both. WEFT_BENCH_PAIRS
// sets another number.
func Pairs(t testing.TB) int {
	t.Helper()
	s := os.Getenv("WEFT_BENCH_PAIRS")
	if s == "" {
		return 15
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 3 {
		t.Fatalf("WEFT_BENCH_PAIRS=%q: want a number of at least 3", s)
	}
	return n
}

// Side is one of the things that a comparison measures.
type Side struct {
	Name    string
	Measure func() float64
	values  []float64
}

// Interleave measures all sides in turn, rounds times, each round beginning
// with another one. A round before that warms up and is thrown away.
func Interleave(rounds int, sides ...*Side) {
	for _, s := range sides {
		s.Measure()
	}
	for r := range rounds {
		for i := range sides {
			s := sides[(r+i)%len(sides)]
			s.values = append(s.values, s.Measure())
		}
	}
}

// Quartiles are the lower quartile, the median and the upper quartile.
func Quartiles(values []float64) (q1, median, q3 float64) {
	v := slices.Sorted(slices.Values(values))
	return percentile(v, 0.25), percentile(v, 0.5), percentile(v, 0.75)
}

// Percentile is the value below which that part of the measured ones lies.
func (s *Side) Percentile(p float64) float64 {
	return percentile(slices.Sorted(slices.Values(s.values)), p)
}

// percentile interpolates between the two nearest of sorted values.
func percentile(sorted []float64, p float64) float64 {
	x := p * float64(len(sorted)-1)
	i := int(x)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
}

// Bound is what the ratio of the first side to another has to be.
type Bound struct {
	Against string  // name of the other side
	Ratio   float64 // of the first side's value to the other's
	AtLeast bool    // else at most
}

// Verdict says whether the bound is met: "met" or "missed" when the middle half
// of the pairs lies on one side of it, "not resolved" when the bound lies within.
func (b Bound) Verdict(q1, q3 float64) string {
	switch {
	case q1 <= b.Ratio && b.Ratio <= q3:
		return "not resolved"
	case (q1 > b.Ratio) == b.AtLeast:
		return "met"
	default:
		return "missed"
	}
}

// Table writes the medians of all sides with their spread, and the ratio of the
// first side to each other one, pair by pair.
func Table(what, unit string, bounds []Bound, sides ...*Side) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d interleaved rounds, median (quartiles)\n", what, len(sides[0].values))
	for _, s := range sides {
		q1, m, q3 := Quartiles(s.values)
		fmt.Fprintf(&b, "  %-28s %9.2f %s  (%.2f to %.2f)", s.Name, m, unit, q1, q3)
		if s != sides[0] {
			r1, rm, r3 := Quartiles(ratios(sides[0].values, s.values))
			fmt.Fprintf(&b, "   %s is %.3f of it (%.3f to %.3f)", sides[0].Name, rm, r1, r3)
			for _, bound := range bounds {
				if bound.Against == s.Name {
					fmt.Fprintf(&b, "; bound %.2f: %s", bound.Ratio, bound.Verdict(r1, r3))
				}
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}
