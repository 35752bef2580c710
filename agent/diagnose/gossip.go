package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/gossip"
)

// Gossip is what gossip tells of its port.
type Gossip interface {
	Trouble() gossip.Trouble
}

// strangers says who speaks to the gossip port and is no member. What they sent did
// nothing here.
func strangers(f Facts) api.Check {
	c := api.Check{Name: "strangers", State: api.CheckOK, Detail: fmt.Sprintf("nobody else speaks to port %d", f.GossipPort)}
	if len(f.Gossip.Strangers) == 0 {
		return c
	}
	var details []string
	times := 0
	for i, s := range f.Gossip.Strangers {
		if times += s.Times; i < shown {
			details = append(details, fmt.Sprintf("%s %d times, last at %s", s.From, s.Times, s.Last.Format(time.TimeOnly)))
		}
	}
	if n := len(f.Gossip.Strangers) - len(details); n > 0 {
		details = append(details, fmt.Sprintf("%d more addresses", n))
	}
	c.State = api.CheckWarn
	c.Detail = fmt.Sprintf("refused %d connections and messages without the cluster's key at port %d: %s", times, f.GossipPort, strings.Join(details, "; "))
	c.Hint = fmt.Sprintf("ss -tn dst %s # and let only members through to port %d", f.Gossip.Strangers[0].From, f.GossipPort)
	return c
}

// datagrams says whether the gossip port's datagrams pass between this host and the
// members. Streams alone keep a member alive, but changes then reach it late.
func datagrams(f Facts) api.Check {
	c := api.Check{Name: "gossip", State: api.CheckOK, Detail: fmt.Sprintf("udp port %d passes", f.GossipPort)}
	if len(f.Gossip.Losses) == 0 {
		return c
	}
	c.State = api.CheckFail
	c.Hint = fmt.Sprintf("nft list ruleset # the gossip port %d must pass, tcp and udp, in both directions", f.GossipPort)
	if f.Gossip.Losses[0].All {
		here := f.View.MemberName(f.View.Self)
		c.Detail = fmt.Sprintf("no datagram of the members reaches udp port %d of this host (%s): changes arrive late", f.GossipPort, here)
		if slices.ContainsFunc(f.Gossip.Losses, func(l gossip.Loss) bool { return l.Heard }) {
			c.Detail = fmt.Sprintf("datagrams of this host (%s) reach udp port %d of no member: changes arrive late there", here, f.GossipPort)
		}
		return c
	}
	var lost, heard []string
	for _, l := range f.Gossip.Losses {
		name := f.View.MemberName(l.Member)
		if l.Heard {
			heard = append(heard, name)
		} else {
			lost = append(lost, name)
		}
	}
	var details []string
	if len(heard) > 0 {
		details = append(details, fmt.Sprintf("datagrams of this host do not reach udp port %d of %s", f.GossipPort, strings.Join(heard, ", ")))
	}
	if len(lost) > 0 {
		details = append(details, fmt.Sprintf("no datagrams come to udp port %d from %s", f.GossipPort, strings.Join(lost, ", ")))
	}
	c.Detail = strings.Join(details, "; ") + ": changes arrive late"
	c.Hint += ", here and on " + strings.Join(append(heard, lost...), ", ")
	return c
}
