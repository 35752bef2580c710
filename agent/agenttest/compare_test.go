package agenttest

import (
	"strings"
	"testing"
)

func TestVerdictNeedsTheMiddleHalfOnOneSide(t *testing.T) {
	atLeast := Bound{Ratio: 0.95, AtLeast: true}
	atMost := Bound{Ratio: 1.05}
	for _, row := range []struct {
		name   string
		bound  Bound
		q1, q3 float64
		want   string
	}{
		{"faster than asked for", atLeast, 0.97, 1.01, "met"},
		{"slower", atLeast, 0.80, 0.90, "missed"},
		{"bound within the spread", atLeast, 0.90, 1.00, "not resolved"},
		{"shorter than asked for", atMost, 0.99, 1.02, "met"},
		{"longer", atMost, 1.10, 1.20, "missed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.bound.Verdict(row.q1, row.q3); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestQuartilesOfASmallSample(t *testing.T) {
	if q1, m, q3 := Quartiles([]float64{5, 1, 3, 2, 4}); q1 != 2 || m != 3 || q3 != 4 {
		t.Errorf("got %v %v %v", q1, m, q3)
	}
}

func TestTableComparesPairByPair(t *testing.T) {
	n := 0.0
	ours := &Side{Name: "ours", Measure: func() float64 { n++; return 2 * n }}
	theirs := &Side{Name: "theirs", Measure: func() float64 { return n }}
	// The rounds alternate who begins; ours counts up, so a pair that is not
	// measured together would show.
	Interleave(4, ours, theirs)
	got := Table("speed", "x", []Bound{{Against: "theirs", Ratio: 1.9, AtLeast: true}}, ours, theirs)
	if !strings.Contains(got, "4 interleaved rounds") || !strings.Contains(got, "bound 1.90: met") {
		t.Errorf("got:\n%s", got)
	}
}
