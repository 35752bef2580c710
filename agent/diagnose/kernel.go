package diagnose

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

// kernel says what the kernel refuses, object by object, with its reason.
func kernel(f Facts) api.Check {
	c := api.Check{Name: "kernel", State: api.CheckOK, Detail: fmt.Sprintf("%d endpoints here, %d networks carried", f.Endpoints, f.Active)}
	if len(f.Troubles) == 0 {
		return c
	}
	var details, hints []string
	for i, t := range f.Troubles {
		if i < shown {
			details = append(details, fmt.Sprintf("%v (tried %d times since %s)", t.Err, t.Tries, t.Since.Format(time.TimeOnly)))
		}
		if h := troubleHint(t.Err); len(hints) < shown && !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	if n := len(f.Troubles) - len(details); n > 0 {
		details = append(details, fmt.Sprintf("%d more", n))
	}
	c.State, c.Detail, c.Hint = api.CheckFail, strings.Join(details, "; "), strings.Join(hints, "\n")
	return c
}

// troubleHint is the command that shows why the kernel refuses something, or what to
// do about it.
func troubleHint(err error) string {
	if r, ok := errors.AsType[*overlay.Remedy](err); ok {
		return r.Command
	}
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			return r.hint
		}
	}
	if e, ok := errors.AsType[*overlay.ObjectError](err); ok {
		if r, isRoute := e.Object.(overlay.Route); isRoute {
			return fmt.Sprintf("ip route show %s # a route of another program; without it ours comes within a minute", r.Dst)
		}
	}
	return "agentctl status --wait # each is tried again, after a minute at the latest"
}
