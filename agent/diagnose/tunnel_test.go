package diagnose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
)

func TestTunnelCheck(t *testing.T) {
	now := time.Now()
	good := tunnel.Proof{Name: "h2", Alive: true, Shares: true, Out: tunnel.OK, In: tunnel.OK, Size: tunnel.OK, MTU: 1500, Requests: 60, At: now.Add(-3 * time.Second)}
	with := func(change func(*tunnel.Proof)) tunnel.Proof {
		p := good
		change(&p)
		return p
	}
	blocked := with(func(p *tunnel.Proof) {
		p.In, p.Why, p.Hint = tunnel.Failing, "4799/udp is blocked from h2 to h1", "nft list ruleset # on h2"
	})
	low := with(func(p *tunnel.Proof) { p.MTU, p.Why, p.Hint = 1400, "of 1400 they do", "ping -M do" })
	fixed := []FixedMTU{{"blue", 1400, 1450}}
	for _, tt := range []struct {
		name  string
		proof tunnel.Proof
		fixed []FixedMTU
		state string
		want  string // in the detail
		hint  string
	}{
		{"well", good, fixed, api.CheckOK, "proven to 1 of 1 members, the oldest proof 3s ago", ""},
		{"blocked", blocked, nil, api.CheckFail, "4799/udp is blocked from h2 to h1", "nft list ruleset # on h2"},
		{"blocked, and no network suffers", with(func(p *tunnel.Proof) { *p = blocked; p.Shares = false }), nil, api.CheckWarn, "blocked from h2 to h1", "nft list ruleset # on h2"},
		{"blocked, and dead", with(func(p *tunnel.Proof) { *p = blocked; p.Alive = false }), nil, api.CheckOK, "0 of 0", ""},
		{"not proven yet", tunnel.Proof{Name: "h2", Alive: true, Out: tunnel.Unproven}, nil, api.CheckOK, "proven to 0 of 1 members", ""},
		{"stale", with(func(p *tunnel.Proof) { p.Out, p.In, p.At = tunnel.Stale, tunnel.Stale, now.Add(-time.Minute) }), nil, api.CheckWarn, "to h2 for 1m0s", "agentctl members #"},
		{"a smaller path", low, nil, api.CheckWarn, "of 1400 they do", "ping -M do"},
		{"a smaller path than a network needs", low, fixed, api.CheckFail, "network blue has an MTU of 1400 for ever, which needs packets of 1450 bytes: to h2 1400 pass", "ping -M do"},
		{"lossy", with(func(p *tunnel.Proof) { p.Loss = 25 }), nil, api.CheckWarn, "25 % of 60 packets", "agentctl members #"},
		{"few packets", with(func(p *tunnel.Proof) { p.Loss, p.Requests = 50, 2 }), nil, api.CheckOK, "1 of 1", ""},
	} {
		c := tunnels(TunnelFacts{Proofs: []tunnel.Proof{tt.proof}, Fixed: tt.fixed, Now: now})
		if c.State != tt.state || !strings.Contains(c.Detail, tt.want) || !strings.HasPrefix(c.Hint, tt.hint) || (c.Hint == "") != (tt.state == api.CheckOK) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

func TestTunnelCheckNamesAFew(t *testing.T) {
	var all []tunnel.Proof
	for n := range 9 {
		all = append(all, tunnel.Proof{Alive: true, Shares: true, Out: tunnel.Failing, Why: fmt.Sprintf("why %d", n), Hint: "nft list ruleset"})
	}
	if c := tunnels(TunnelFacts{Proofs: all}); c.Detail != "why 0; why 1; why 2; why 3; 5 more" || c.Hint != "nft list ruleset" {
		t.Errorf("%+v", c)
	}
}

// A host that is gone is a fault of the cluster: its containers answer nobody.
func TestMembersThatAreAwayFail(t *testing.T) {
	for status, want := range map[discovery.MemberStatus]string{
		discovery.StatusDead: api.CheckFail, discovery.StatusAgentDown: api.CheckFail, discovery.StatusSuspect: api.CheckWarn, discovery.StatusLeft: api.CheckOK,
	} {
		f := Facts{View: discovery.View{Members: []discovery.Member{{Name: "h1", Status: discovery.StatusAlive}, {Name: "h2", Status: status, Down: time.Now().Add(-time.Minute)}}}}
		c := members(f)
		if c.State != want {
			t.Errorf("%v: %+v, want %s", status, c, want)
		}
		if away := want == api.CheckFail; away && (!strings.Contains(c.Detail, "h2 "+status.String()+" since ") || c.Since.IsZero() || !strings.Contains(c.Hint, "h2")) {
			t.Errorf("%v: it does not say who, since when and what to type: %+v", status, c)
		}
	}
}
