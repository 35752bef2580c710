package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// Door is where the agent answers beside its own socket.
type Door struct {
	What, At string
	Err      error // why it does not
}

// Doors says whether who only reads is answered. Nothing of the networks depends on
// it.
func Doors(all []Door) api.Check {
	c := api.Check{Name: "listeners", State: api.CheckOK}
	var open, shut, hints []string
	for _, d := range all {
		if d.Err == nil {
			open = append(open, d.What+" at "+d.At)
			continue
		}
		shut = append(shut, fmt.Sprintf("%s at %s is not served: %v", d.What, d.At, d.Err))
		hint := "ls -l " + d.At + " # the agent tries again by itself"
		if strings.HasPrefix(d.At, "http://") {
			hint = "ss -ltnp # or another metrics_listen in agentd.yaml, then systemctl restart agentd"
		}
		hints = append(hints, hint)
	}
	c.Detail = strings.Join(append(shut, open...), ", ")
	if len(shut) > 0 {
		c.State, c.Hint = api.CheckWarn, strings.Join(hints, "\n")
	}
	return c
}
