package pool_test

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery/pool"
)

// slow hands requests on after a while, or refuses them.
type slow struct {
	next   http.RoundTripper
	refuse atomic.Bool
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.refuse.Load() {
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Request: r}, nil
	}
	time.Sleep(5 * time.Millisecond)
	return s.next.RoundTrip(r)
}

// What the store answers is counted, with its time; what it refuses is an error.
func TestRequestsToTheStoreAreCounted(t *testing.T) {
	s := &slow{next: embeddedStore(t).client().Transport}
	p, err := pool.New(pool.Config{HTTPClient: &http.Client{Transport: s}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if s := p.Stats(); s != (pool.Stats{}) {
		t.Errorf("before the first request: %+v", s)
	}
	_, _ = p.Meta(t.Context()) // there is no cluster, says the store; it may have to start first
	one := p.Stats()
	if one.Timed == 0 || one.Errors+one.Timed != one.Requests || one.Took < time.Duration(one.Timed)*5*time.Millisecond || time.Since(one.Answered) > time.Minute {
		t.Errorf("after an answer: %+v", one)
	}
	s.refuse.Store(true)
	_, _ = p.Meta(t.Context())
	if two := p.Stats(); two.Errors <= one.Errors || two.Answered != one.Answered || two.Took != one.Took {
		t.Errorf("after a refusal: %+v, before it %+v", two, one)
	}
}
