package diagnose

import (
	"errors"
	"fmt"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/history"
)

// History says whether what happens on this host is written down in dir.
func History(dir string, s history.State) api.Check {
	c := api.Check{Name: "history", State: api.CheckOK, Detail: "events are written down"}
	if s.Lost > 0 {
		c.Detail = fmt.Sprintf("events are written down; %d could not be since the agent began", s.Lost)
	}
	if s.Err == nil {
		return c
	}
	c.State = api.CheckWarn
	c.Detail = fmt.Sprintf("events are lost since %s, %d so far: %v; all else goes on", s.Since.UTC().Format(time.RFC3339), s.Lost, s.Err)
	c.Hint = fmt.Sprintf("df -h %s # and make room, or mount it writable", dir)
	if errors.Is(s.Err, history.ErrForeign) {
		c.Hint = fmt.Sprintf("mv %[1]s %[1]s.foreign # the agent makes a new one", dir)
	}
	return c
}
