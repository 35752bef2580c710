package pace

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepEndsWithItsTimeOrItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !Sleep(t.Context(), time.Minute) || time.Since(start) != time.Minute {
			t.Errorf("slept %v, want a minute and true", time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if Sleep(ctx, time.Minute) || time.Since(start) != time.Second {
			t.Errorf("slept %v, want a second and false", time.Since(start))
		}
		if Sleep(ctx, 0) {
			t.Error("an ended context: true")
		}
	})
}

func TestJitterStaysWithinAQuarter(t *testing.T) {
	seen := map[bool]int{}
	for range 1000 {
		d := Jitter(time.Second)
		if d < 750*time.Millisecond || d >= 1250*time.Millisecond {
			t.Fatalf("jitter of a second: %v", d)
		}
		seen[d < time.Second]++
	}
	if seen[true] < 300 || seen[false] < 300 {
		t.Errorf("one side is preferred: %v", seen)
	}
	if d := Jitter(1); d != 1 {
		t.Errorf("jitter of 1 ns: %v", d)
	}
}

func TestSignalMergesWithTheOneBefore(t *testing.T) {
	s := NewSignal()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("set twice, received twice")
	default:
	}
}

func TestBackoffDoublesUntilItWorks(t *testing.T) {
	b := Backoff{First: time.Second, Most: 5 * time.Second}
	var got []time.Duration
	for range 4 {
		got = append(got, b.Failed())
	}
	if want := []time.Duration{1e9, 2e9, 4e9, 5e9}; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
	b.Worked()
	if b.Failing() || b.Failed() != time.Second {
		t.Error("what worked is remembered as failing")
	}
}
