package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// routes says which routes of other programs take packets that belong to endpoints.
// It fails where an endpoint of this host is cut off; the addresses alone deserve a
// look.
func routes(f Facts) api.Check {
	c := api.Check{Name: "routes", State: api.CheckOK, Detail: "none of another program leads into a network"}
	var details, hints []string
	for _, o := range f.Surroundings.Routes {
		detail := fmt.Sprintf("%s is not weft's and takes packets for network %s: this host's access, egress and published ports of %s are cut",
			o.Route, o.Network, o.Cut())
		if hit := within(f.View, o.Cut()); len(hit) > 0 {
			c.State = api.CheckFail
			detail += ", so of " + few(hit)
		} else if c.State == api.CheckOK {
			c.State = api.CheckWarn
		}
		details = append(details, detail)
		hints = append(hints, deletion(o.Route)+" # or have the program that made it leave out "+o.Subnet.String())
	}
	if len(details) > 0 {
		c.Detail, c.Hint = strings.Join(details, "; "), strings.Join(hints, "\n")
	}
	return c
}

// deletion is the command that takes a route away. A whole table that is asked
// before ours is a rule's doing.
func deletion(r overlay.ForeignRoute) string {
	if r.Dst.Bits() == 0 {
		return fmt.Sprintf("ip rule show # of which one leads to table %d", r.Table)
	}
	return r.Deletion()
}

// within are this host's endpoints with an address in a prefix.
func within(v discovery.View, p netip.Prefix) (out []string) {
	for _, r := range v.Endpoints {
		for _, a := range r.Addrs() {
			if r.Host == v.Self && p.Contains(a) {
				out = append(out, r.Name+" "+a.String())
			}
		}
	}
	return out
}

// few names the first of many.
func few(all []string) string {
	if len(all) <= shown {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
}
