package api

import (
	"context"
)

// TestRequest has the connectivity suite run.
type TestRequest struct {
	Hosts []string `json:"hosts,omitempty"` // by name; empty: all that are alive
	Run   string   `json:"run,omitempty"`   // a regular expression (RE2); empty: every check
	Perf  bool     `json:"perf,omitempty"`  // measure each pair as well
}

// Test is how a run of the suite went.
type Test struct {
	ID      string      `json:"id"` // of the run
	Passed  int         `json:"passed"`
	Failed  int         `json:"failed"`
	Skipped int         `json:"skipped"`
	Took    int64       `json:"took_ms"`
	Hosts   []string    `json:"hosts"` // that took part, by name
	Checks  []TestCheck `json:"checks"`
	Perf    []TestPerf  `json:"perf,omitempty"`
	Unasked []Unasked   `json:"unasked,omitempty"` // hosts that did not, though they were asked to
}

// TestCheck is one check of the suite.
type TestCheck struct {
	Name  string `json:"name"`
	State string `json:"state"` // passed, failed or skipped
	Host  string `json:"host"`  // that made it; empty: none could
	Took  int64  `json:"took_ms"`
	Why   string `json:"why,omitempty"`  // of one that failed: what was seen, and what why says; of one that was skipped: the reason
	Hint  string `json:"hint,omitempty"` // lines to type
}

// TestPerf is what one host sends to another: through the tunnel, and beside it.
type TestPerf struct {
	From     string  `json:"from"`
	To       string  `json:"to"`
	Rate     float64 `json:"mbit_s"`          // TCP, 10^6 bits a second
	RTT      int64   `json:"rtt_us"`          // the least of ten
	Underlay float64 `json:"underlay_mbit_s"` // 0: not measured
	Beside   int64   `json:"underlay_rtt_us"` // 0: not measured
}

// Test is POST /v1/test; progress may be nil. The run ends, and is removed, when ctx ends.
func (c *Client) Test(ctx context.Context, r TestRequest, progress func(string)) (Test, error) {
	return long[Test](ctx, c, "/v1/test", r, progress)
}
