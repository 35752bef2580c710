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

// filters says which packet filters of other programs drop what endpoints send or are
// sent. An accept of weft's own table is not final in them.
func filters(f Facts) api.Check {
	c := api.Check{Name: "filters", State: api.CheckOK, Detail: "none of another program drops what endpoints send"}
	var details, hints []string
	for _, g := range f.Surroundings.Filters {
		by := "by a rule for all that none before it accepts"
		if g.Policy {
			by = "by its policy"
		}
		details = append(details, fmt.Sprintf("chain %s, which is not weft's, drops %s %s", g, joined(g.Drops), by))
		if g.Table == "firewalld" {
			hints = append(hints, firewalld...)
			continue
		}
		accept := g.Accept()
		accept[len(accept)-1] += " # and put " + map[bool]string{true: "it", false: "both"}[len(accept) == 1] + " into the file that makes the table"
		hints = append(hints, accept...)
	}
	if len(details) > 0 {
		c.State, c.Detail, c.Hint = api.CheckFail, strings.Join(details, "; "), strings.Join(hints, "\n")
	}
	return c
}

// firewalld makes its rules anew at each reload: it is told of the gateway ports in
// its own words.
var firewalld = []string{
	"firewall-cmd --permanent --zone=trusted --add-interface=g+",
	"firewall-cmd --permanent --new-policy=weft",
	"firewall-cmd --permanent --policy=weft --add-ingress-zone=ANY --add-egress-zone=trusted --set-target=ACCEPT",
	"firewall-cmd --reload",
}

// Neighbours is a neighbour table of the kernel, and how this host stands with it.
type Neighbours struct {
	overlay.NeighbourTable
	Permanent int  // entries that are known to be permanent, and do not count
	Full      bool // it overflowed a moment ago
}

// nearlyFull is the share of a neighbour table that deserves a look.
const nearlyFull = 0.8

// NeighbourTables says whether the kernel has room for the neighbours of this machine.
func NeighbourTables(all []Neighbours) api.Check {
	c := api.Check{Name: "neighbours", State: api.CheckOK, Detail: "the kernel has room for more"}
	var details, hints, room []string
	for _, n := range all {
		counted := n.Entries - n.Permanent
		switch {
		case n.Full:
			c.State = api.CheckFail
			details = append(details, fmt.Sprintf("the kernel's neighbour table %s is full: %d entries of at most %d, for all network namespaces of the machine",
				n.Name, counted, n.Limit))
		case n.Limit > 0 && float64(counted) >= nearlyFull*float64(n.Limit):
			if c.State == api.CheckOK {
				c.State = api.CheckWarn
			}
			details = append(details, fmt.Sprintf("the kernel's neighbour table %s has %d entries of at most %d, for all network namespaces of the machine",
				n.Name, counted, n.Limit))
		default:
			room = append(room, fmt.Sprintf("%s has %d entries of at most %d", n.Name, counted, n.Limit))
			continue
		}
		hints = append(hints, fmt.Sprintf("sysctl -w net.%s.neigh.default.gc_thresh3=%d # in the machine's first network namespace", family(n.IPv6), roomFor(n.Limit)))
	}
	switch {
	case len(details) > 0:
		c.Detail, c.Hint = strings.Join(details, "; "), strings.Join(hints, "\n")
	case len(room) > 0:
		c.Detail += ": " + strings.Join(room, ", ")
	}
	return c
}

// roomFor is a limit well above the one that is too small, and not below the one
// that an agent sets where it may.
func roomFor(limit int) int { return max(4*limit, 16384) }

func family(v6 bool) string {
	if v6 {
		return "ipv6"
	}
	return "ipv4"
}

// joined is a list in a sentence.
func joined(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
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
