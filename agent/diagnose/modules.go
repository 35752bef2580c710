package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

// modules says what the kernel lacks, and what does not work for that.
func modules(f Facts) api.Check {
	c := api.Check{Name: "modules", State: api.CheckOK, Detail: fmt.Sprintf("the kernel has all that is used of it, %d parts were tried", len(f.Needs))}
	missing, hints := lacks(f.Needs)
	if len(missing) > 0 {
		c.State = api.CheckWarn
		if slices.ContainsFunc(f.Needs, func(n overlay.Need) bool { return n.Err != nil && !n.Rest }) {
			c.State = api.CheckFail
		}
		c.Detail, c.Hint = "the kernel lacks "+strings.Join(missing, "; "), strings.Join(hints, "\n")
	}
	return c
}

// lacks names each part that is missing once, with all that needs it.
func lacks(needs []overlay.Need) (missing, hints []string) {
	what := map[string][]string{}
	var order []overlay.Need
	for _, n := range needs {
		if n.Err == nil {
			continue
		}
		if what[n.Module] == nil {
			order = append(order, n)
		}
		what[n.Module] = append(what[n.Module], n.For)
	}
	for _, n := range order {
		missing = append(missing, fmt.Sprintf("%s (Linux %s), for %s: %v", n.Module, cmp.Or(n.Since, "?"), strings.Join(what[n.Module], "; "), n.Err))
		hints = append(hints, hintOfModule(n))
	}
	return missing, hints
}

func hintOfModule(n overlay.Need) string {
	if strings.ToLower(n.Module) != n.Module { // an option of a socket: part of every kernel since
		return fmt.Sprintf("uname -r # %s came with Linux %s", n.Module, n.Since)
	}
	return fmt.Sprintf("modprobe %s && systemctl restart agentd", n.Module)
}
