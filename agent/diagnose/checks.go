// Package diagnose says what works and what does not, each with its evidence and
// the command to type next. It is pure: facts are handed in.
package diagnose

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/overlay"
)

// Facts are what a member knows of itself and of the others.
type Facts struct {
	Forgotten string // who took this host out of the cluster; empty: nobody
	Homeless  string // that no device has this host's address; empty: one has
	View      discovery.View
	Complete  bool // every member was read

	GossipPort uint16
	Gossip     gossip.Trouble

	Store    string // where it is, in words
	StoreErr error  // of the last call
	// StoreLacks says what this host knows and the store does not have; empty: nothing.
	StoreLacks string

	Endpoints, Active int               // endpoints here, networks with devices here
	Troubles          []overlay.Trouble // what the kernel refuses
	Needs             []overlay.Need    // of the kernel
	Altered           []endpoint.Altered
	// Surroundings are what other programs have in the way of the networks here.
	Surroundings overlay.Surroundings
	Neighbours   []Neighbours

	Names  NameFacts
	Tunnel TunnelFacts

	PortsHeld int // published here
	PortsLost []string
}

// Checks makes the lines of status, one for each subject.
func Checks(f Facts) []api.Check {
	return []api.Check{
		members(f), datagrams(f), strangers(f), tunnels(f.Tunnel), store(f), table(f),
		kernel(f), modules(f), NeighbourTables(f.Neighbours),
		sandboxes(f), routes(f), filters(f),
		names(f.Names), ports(f),
	}
}

func members(f Facts) api.Check {
	c := api.Check{Name: "membership", State: api.CheckOK}
	if f.Forgotten != "" {
		c.State, c.Detail = api.CheckFail, "this host was taken out of the cluster: "+f.Forgotten
		c.Hint = fmt.Sprintf("agentctl join %s --token-file FILE --replace # detaches what runs here, and joins as a new host", anyMember(f.View))
		return c
	}
	if f.Homeless != "" {
		c.State, c.Detail = api.CheckFail, f.Homeless
		c.Hint = "ip addr # without advertise in agentd.yaml the agent follows the default route"
		return c
	}
	alive, total := 0, 0
	away := false // one that is not coming back by itself
	var missing, hints []string
	var since time.Time // the first of those that are away went
	for _, m := range f.View.Members {
		switch m.Status {
		case discovery.StatusLeft:
			continue
		case discovery.StatusAlive:
			alive++
		default:
			missing = append(missing, m.Name+" "+m.Status.String()+when(m.Down))
			if !m.Down.IsZero() && (since.IsZero() || m.Down.Before(since)) {
				since = m.Down
			}
			away = away || m.Status != discovery.StatusSuspect
			if m.Status == discovery.StatusAgentDown {
				hints = append(hints, fmt.Sprintf("systemctl start agentd # on %s", m.Name))
			} else {
				hints = append(hints, fmt.Sprintf("agentctl leave --force %s # if it is gone for good", m.Name))
			}
		}
		total++
	}
	c.Detail = fmt.Sprintf("%d of %d members alive", alive, total)
	if len(missing) > 0 {
		c.State, c.Detail = api.CheckWarn, c.Detail+": "+strings.Join(missing, ", ")
		c.Hint = strings.Join(hints, "\n")
		c.Since = since
	}
	if away {
		c.State = api.CheckFail
	}
	return c
}

// when says since when something is so, if that is known.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.Local().Format(time.DateTime)
}

// anyMember is the address of another member, for the line that joins it: of one that
// is alive, if this host still knows.
func anyMember(v discovery.View) string {
	address := "ADDRESS"
	for _, m := range v.Members {
		if m.ID == v.Self || !m.Header.VTEP.IsValid() || m.Status == discovery.StatusLeft {
			continue
		}
		if address = m.Header.VTEP.String(); m.Status == discovery.StatusAlive {
			return address
		}
	}
	return address
}

func store(f Facts) api.Check {
	c := api.Check{Name: "store", State: api.CheckOK, Detail: f.Store}
	if f.StoreErr != nil {
		c.State, c.Detail = api.CheckFail, f.StoreErr.Error()
		if r, ok := errors.AsType[strict.Refused](f.StoreErr); ok && r.Hint != "" {
			c.Hint = r.Hint + " # the hosts write the record back"
			return c
		}
		c.Hint = "agentctl status --wait # what is attached goes on; new networks and blocks wait"
		return c
	}
	if f.StoreLacks != "" {
		c.State, c.Detail = api.CheckWarn, c.Detail+": "+f.StoreLacks
		c.Hint = "agentctl status --wait # what is attached goes on"
	}
	return c
}

func table(f Facts) api.Check {
	c := api.Check{Name: "table", State: api.CheckOK}
	c.Detail = fmt.Sprintf("%d endpoints", len(f.View.Endpoints))
	var conflicted []string
	for _, r := range f.View.Endpoints {
		if r.Conflicted && r.Host == f.View.Self { // of others the check "refused" tells
			conflicted = append(conflicted, fmt.Sprintf("%s of %s", r.Addrs()[0], cmp.Or(r.Name, r.ID.String())))
		}
	}
	shared := endpoint.SharedMACs(f.View)
	switch {
	case len(conflicted) > 0:
		c.State, c.Detail = api.CheckFail, "endpoints of this host whose address another host holds, not programmed: "+strings.Join(conflicted, ", ")
		c.Hint = "agentctl endpoint ls # detach them and attach them again"
	case len(shared) > 0:
		c.State, c.Detail = api.CheckFail, "MAC addresses that two endpoints have: "+strings.Join(shared, ", ")
		c.Hint = "agentctl endpoint ls # detach one of each"
	case !f.Complete:
		c.State, c.Detail = api.CheckWarn, c.Detail+", not every member was read yet"
	}
	return c
}

// ports says which published ports another program holds.
func ports(f Facts) api.Check {
	c := api.Check{Name: "ports", State: api.CheckOK, Detail: fmt.Sprintf("%d published here", f.PortsHeld)}
	if lost := f.PortsLost; len(lost) > 0 {
		c.State = api.CheckWarn
		c.Detail = fmt.Sprintf("%d published here, of which others listen on %d: %s", f.PortsHeld+len(lost), len(lost), strings.Join(lost, "; "))
		c.Hint = "ss -lntup # and stop that program: clients reach the endpoint, never it"
	}
	return c
}
