package api

import (
	"context"
	"net/http"
)

// PingRequest has ICMP echoes sent from one end to another.
type PingRequest struct {
	From  string `json:"from,omitempty"`  // an endpoint, a container, an address, or host (the default)
	To    string `json:"to"`              // the same, or a name
	Count int    `json:"count,omitempty"` // 1 to 100; 0: 4
	Size  int    `json:"size,omitempty"`  // bytes of each echo's data, up to 65000; 0: 56
	Whole bool   `json:"df,omitempty"`    // packets are not fragmented on the way
}

// Ping is what came back.
type Ping struct {
	From     string      `json:"from"`
	To       string      `json:"to"`
	Address  string      `json:"address"`
	Host     string      `json:"host,omitempty"` // that To is on; empty: outside the cluster
	Way      string      `json:"way"`            // by which the echoes go
	Sent     int         `json:"sent"`
	Received int         `json:"received"`
	Loss     float64     `json:"loss_pct"`
	Least    int64       `json:"rtt_min_us"` // 0 when nothing came back, as the two below
	Mean     int64       `json:"rtt_mean_us"`
	Most     int64       `json:"rtt_max_us"`
	Replies  []PingReply `json:"replies"`        // in the order in which they were sent
	Why      string      `json:"why,omitempty"`  // why nothing came back, in one sentence
	Hint     string      `json:"hint,omitempty"` // lines to type
}

// PingReply is what became of one echo.
type PingReply struct {
	Seq   int    `json:"seq"` // from 1
	State string `json:"state"`
	RTT   int64  `json:"rtt_us"` // 0 when it was not answered
}

// Mesh is the tunnel between each two members that were asked.
type Mesh struct {
	Hosts   []string  `json:"hosts"` // that answered, by name
	Ways    []MeshWay `json:"ways"`
	Unasked []Unasked `json:"unasked,omitempty"`
}

// MeshWay is what a host says of the tunnel to another.
type MeshWay struct {
	From  string `json:"from"`
	State string `json:"state"` // the worst of the proof's: ok, failing, stale or unproven
	Proof Proof  `json:"proof"`
}

// Ping is POST /v1/ping: it sends packets.
func (c *Client) Ping(ctx context.Context, r PingRequest) (Ping, error) {
	return ask[Ping](ctx, c, http.MethodPost, "/v1/ping", r)
}

// Mesh is GET /v1/mesh, and with refresh POST: every member makes its proofs anew.
func (c *Client) Mesh(ctx context.Context, refresh bool) (Mesh, error) {
	method := http.MethodGet
	if refresh {
		method = http.MethodPost
	}
	return ask[Mesh](ctx, c, method, "/v1/mesh", nil)
}
