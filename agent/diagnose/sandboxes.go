package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
)

// sandboxes says which endpoints' interfaces were changed from inside.
func sandboxes(f Facts) api.Check {
	c := api.Check{Name: "sandboxes", State: api.CheckOK, Detail: "every interface is as it was made"}
	if len(f.Altered) == 0 {
		return c
	}
	var details, hints []string
	for i, a := range f.Altered {
		if i == shown {
			details = append(details, fmt.Sprintf("%d more", len(f.Altered)-shown))
			break
		}
		details = append(details, fmt.Sprintf("%s on %s in %s: %s", a.Name, a.Network, a.Sandbox, strings.Join(a.How, ", ")))
		hints = append(hints, a.Again)
	}
	c.State, c.Detail, c.Hint = api.CheckWarn, strings.Join(details, "; "), strings.Join(hints, "\n")
	return c
}
