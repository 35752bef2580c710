package diagnose

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// A start is one until all was read, and no longer than its bound: then what is missing
// is a fault.
func TestAStartEnds(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		after    time.Duration
		f        StartFacts
		starting bool
		state    string
		says     string
	}{
		{"the store is not read", time.Second, StartFacts{StoreUnread: true, Store: "in Consul at x"}, true, api.CheckWarn, "waits for the networks and hosts in Consul at x;"},
		{"members are not read", time.Second, StartFacts{MembersUnread: true}, true, api.CheckWarn, "waits for what members that count as alive have"},
		{"no pass was made of it", time.Second, StartFacts{}, true, api.CheckWarn, "waits for the first pass"},
		{"it takes too long", StartWithin, StartFacts{StoreUnread: true, MembersUnread: true}, false, api.CheckFail, " and what members"},
		{"all was read", time.Second, StartFacts{CaughtUp: began.Add(1500 * time.Millisecond), MembersUnread: true}, false, api.CheckOK, "1.5s after the start"},
	} {
		tt.f.Began, tt.f.Now = began, began.Add(tt.after)
		c := Start(tt.f)
		if tt.f.Starting() != tt.starting || c.State != tt.state || !strings.Contains(c.Detail, tt.says) || (c.State == api.CheckOK) != (c.Hint == "") {
			t.Errorf("%s: starting %v, %+v", tt.name, tt.f.Starting(), c)
		}
	}
}
