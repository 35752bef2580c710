package pool

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// Stats count the requests to the store since the start.
type Stats struct {
	Requests uint64        // that were answered or given up
	Errors   uint64        // of them, those that no store answered as it should
	Took     time.Duration // until the answers began, without the requests that wait for a change
	Timed    uint64        // requests that Took is of
	Answered time.Time     // when the last answer came; zero: never
}

type counters struct {
	requests, errors, timed atomic.Uint64
	took, answered          atomic.Int64 // nanoseconds; since 1970
}

func (c *counters) stats() Stats {
	s := Stats{Requests: c.requests.Load(), Errors: c.errors.Load(), Timed: c.timed.Load(), Took: time.Duration(c.took.Load())}
	if at := c.answered.Load(); at != 0 {
		s.Answered = time.Unix(0, at)
	}
	return s
}

// counting counts requests on their way to next, which classifies the answers.
type counting struct {
	next  http.RoundTripper
	count *counters
}

// RoundTrip implements http.RoundTripper. A request that its caller gave up says
// nothing of the store.
func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := c.next.RoundTrip(req)
	if err != nil && errors.Is(req.Context().Err(), context.Canceled) {
		return resp, err
	}
	now := time.Now()
	c.count.requests.Add(1)
	if err != nil {
		c.count.errors.Add(1)
		return resp, err
	}
	c.count.answered.Store(now.UnixNano())
	if req.URL.Query().Get("index") == "" {
		c.count.timed.Add(1)
		c.count.took.Add(int64(now.Sub(began)))
	}
	return resp, err
}

// CloseIdleConnections is what http.Client's method of that name calls.
func (c counting) CloseIdleConnections() { closeIdle(c.next) }

// Stats returns the counters now.
func (p *Pool) Stats() Stats { return p.store.count.stats() }
