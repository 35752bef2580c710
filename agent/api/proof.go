package api

import "time"

// Proof is what this host knows of the tunnel between it and one member. Each state
// is ok, failing, stale or unproven.
type Proof struct {
	Peer   string    `json:"peer"`   // name
	Shares bool      `json:"shares"` // a network, with this host
	Out    string    `json:"out"`    // what this host sends gets there
	In     string    `json:"in"`     // what the peer sends comes here
	Size   string    `json:"size"`   // packets of the networks' MTU get there
	Bulk   string    `json:"bulk"`   // many packets at once, as TCP sends them, get there
	MTU    int       `json:"mtu"`    // bytes of the largest underlay packet that gets there; 0: not known
	Last   int64     `json:"rtt_us"` // round trip; 0 when not known
	Median int64     `json:"rtt_median_us"`
	Worst  int64     `json:"rtt_worst_us"` // of the last minute, as the median
	Loss   float64   `json:"loss_pct"`     // of the requests of the last ten minutes
	At     time.Time `json:"at,omitzero"`  // of the newest proof
	Why    string    `json:"why,omitempty"`
	Hint   string    `json:"hint,omitempty"`
}
