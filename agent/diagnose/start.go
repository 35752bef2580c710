package diagnose

import (
	"fmt"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// StartWithin is how long a start may take before what it waits for is a fault. A
// member that this host knows from its disk counts as alive for half of it.
const StartWithin = 30 * time.Second

// StartFacts say how far this start of the agent has come.
type StartFacts struct {
	Began, Now time.Time
	CaughtUp   time.Time // when the first pass ended that was of everything; zero: none has
	// What is not read yet.
	StoreUnread, MembersUnread bool
	Store                      string // where they are, in words
}

// Starting reports whether it is too early to say how this host is.
func (f StartFacts) Starting() bool {
	return f.CaughtUp.IsZero() && f.Now.Sub(f.Began) < StartWithin
}

// Start says what this start of the agent still waits for.
func Start(f StartFacts) api.Check {
	c := api.Check{Name: "start", State: api.CheckOK}
	if !f.CaughtUp.IsZero() {
		c.Detail = fmt.Sprintf("all was read and programmed %v after the start", f.CaughtUp.Sub(f.Began).Round(time.Millisecond))
		return c
	}
	var missing []string
	if f.StoreUnread {
		missing = append(missing, "the networks and hosts "+f.Store)
	}
	if f.MembersUnread {
		missing = append(missing, "what members that count as alive have")
	}
	if len(missing) == 0 {
		missing = []string{"the first pass over all of it"}
	}
	c.Since, c.State = f.Began, api.CheckWarn
	c.Detail = fmt.Sprintf("begun %v ago, waits for %s; what ran before goes on", f.Now.Sub(f.Began).Round(time.Second), strings.Join(missing, " and "))
	c.Hint = "agentctl status --wait"
	if !f.Starting() {
		c.State = api.CheckFail
		c.Hint = "agentctl members # who does not answer\nagentctl doctor # whether the store does"
	}
	return c
}
