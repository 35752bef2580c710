package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/strict"
)

// shown is how many refusals a check spells out.
const shown = 5

// Refused says what came from members, the pool, files or runtimes and was turned
// away.
func Refused(all []strict.Refused, more int) api.Check {
	c := api.Check{Name: "refused", State: api.CheckOK, Detail: "nothing of what members, the store, files and runtimes say"}
	if len(all) == 0 {
		return c
	}
	var details, hints []string
	for i, r := range all {
		if i < shown {
			details = append(details, r.Source+": "+r.Why)
		}
		if r.Hint != "" && len(hints) < shown && !slices.Contains(hints, r.Hint) {
			hints = append(hints, r.Hint)
		}
	}
	if n := len(all) - len(details) + more; n > 0 {
		details = append(details, fmt.Sprintf("%d more", n))
	}
	c.State, c.Detail, c.Hint = api.CheckWarn, strings.Join(details, "; "), strings.Join(hints, "\n")
	return c
}
