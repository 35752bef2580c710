package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/tunnel"
)

// TunnelFacts are what was proven of the tunnel.
type TunnelFacts struct {
	Proofs []tunnel.Proof
	Now    time.Time
	// Fixed are the networks here whose MTU follows nothing, with the underlay packet
	// that each needs, in bytes.
	Fixed []FixedMTU
}

// FixedMTU is a network that was given its MTU.
type FixedMTU struct {
	Network string
	MTU     int // of the inner packet, in bytes
	Needs   int // of the underlay, in bytes
}

const (
	lossy       = 10 // percent of the requests that had no reply deserve a look
	lossySample = 20 // requests that say something of it
	tunnelsSaid = 4  // members that one check names
)

// findings are sentences with what to type about each.
type findings struct{ details, hints []string }

func (f *findings) add(detail, hint string) {
	f.details = append(f.details, detail)
	if hint != "" && !slices.Contains(f.hints, hint) {
		f.hints = append(f.hints, hint)
	}
}

// said are the first of them.
func (f findings) said() (detail, hint string) {
	details := f.details[:min(len(f.details), tunnelsSaid)]
	if more := len(f.details) - len(details); more > 0 {
		details = append(slices.Clone(details), fmt.Sprintf("%d more", more))
	}
	return strings.Join(details, "; "), strings.Join(f.hints[:min(len(f.hints), tunnelsSaid)], "\n")
}

// tunnels says to whom encapsulated packets do not pass. It fails where a network
// suffers, and warns where none does yet.
func tunnels(f TunnelFacts) api.Check {
	c := api.Check{Name: "tunnel", State: api.CheckOK, Detail: proven(f)}
	var fail, warn findings
	for _, p := range f.Proofs {
		if p.Alive {
			judge(p, f, &fail, &warn)
		}
	}
	switch {
	case len(fail.details) > 0:
		c.State = api.CheckFail
		c.Detail, c.Hint = fail.said()
	case len(warn.details) > 0:
		c.State = api.CheckWarn
		c.Detail, c.Hint = warn.said()
	}
	return c
}

// judge says what is wrong between this host and one member.
func judge(p tunnel.Proof, f TunnelFacts, fail, warn *findings) {
	worst := warn
	if p.Shares {
		worst = fail
	}
	switch p.State() {
	case tunnel.Failing:
		worst.add(p.Why, p.Hint)
	case tunnel.Stale:
		warn.add(fmt.Sprintf("nothing was proven of the tunnel to %s for %v", p.Name, f.Now.Sub(p.At).Round(time.Second)), "agentctl members # whether that host is alive")
	case tunnel.OK:
		for _, n := range f.Fixed {
			if p.MTU != 0 && n.Needs > p.MTU && p.Why != "" {
				worst.add(fmt.Sprintf("network %s has an MTU of %d for ever, which needs packets of %d bytes: to %s %d pass", n.Network, n.MTU, n.Needs, p.Name, p.MTU), p.Hint)
			}
		}
		switch {
		case p.Why != "":
			warn.add(p.Why, p.Hint)
		case p.Loss > lossy && p.Requests >= lossySample:
			warn.add(fmt.Sprintf("%.0f %% of %d packets to and from %s are lost", p.Loss, p.Requests, p.Name), "agentctl members # RTT and TUNNEL of each; the hosts' network loses packets")
		}
	}
}

// proven says to how many members packets pass, and how old the oldest proof is.
func proven(f TunnelFacts) string {
	alive, ok := 0, 0
	var oldest time.Duration
	for _, p := range f.Proofs {
		if !p.Alive {
			continue
		}
		alive++
		if p.State() == tunnel.OK {
			ok++
			oldest = max(oldest, f.Now.Sub(p.At))
		}
	}
	detail := fmt.Sprintf("proven to %d of %d members", ok, alive)
	if ok > 0 {
		detail += fmt.Sprintf(", the oldest proof %v ago", cmp.Or(oldest.Round(time.Second), time.Second))
	}
	return detail
}
