package agent

import (
	"context"
	"errors"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/chronicle"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// answerMembers has the questions of other members answered.
func (s service) answerMembers() {
	s.peers.Handle(chronicle.Question, chronicle.Answers(s.history))
	s.peers.Handle("verify", peers.Handler(s.verifyFor))
	s.peers.Handle("why", peers.Handler(s.whyFor))
	s.peers.Handle("ping", pingFor(s.Agent))
	s.peers.Handle("mesh", peers.Handler(s.meshFor))
	s.peers.Handle(trialQuestion, playFor(s.Agent))
	s.peers.Handle("why-side", peers.Handler(s.sideFor))
	s.peers.Handle("bundle", peers.Handler(s.bundleFor))
	s.peers.Handle("clock", peers.Handler(clockFor))
}

// askWait is how long a member may take for its answer to a person's question.
const askWait = 10 * time.Second

// Verify implements api.Service.
func (a service) Verify(ctx context.Context, r api.VerifyRequest) (api.Verification, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Verification{}, err
	}
	v, err := m.verify(ctx, r.Repair)
	if err != nil || !r.All {
		return v, m.explain("verify", err)
	}
	for _, one := range askAll[api.Verification](ctx, m, "verify", api.VerifyRequest{Repair: r.Repair}) {
		if one.Err != nil {
			v.Unasked = append(v.Unasked, unasked(one.Host, one.Err))
			continue
		}
		v.Checked += one.Answer.Checked
		for _, d := range one.Answer.Drift {
			d.Host = one.Host.Name // what it calls itself is not its to say
			v.Drift = append(v.Drift, d)
		}
	}
	return v, nil
}

// verifyFor answers a member's question.
func (a service) verifyFor(ctx context.Context, _ discovery.HostID, r api.VerifyRequest) (api.Verification, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Verification{}, err
	}
	return m.verify(ctx, r.Repair)
}

// verify compares this host's kernel with the last plan. What still differs after a
// repair was not repaired.
func (m *member) verify(ctx context.Context, repair bool) (api.Verification, error) {
	drift, checked, err := m.overlay.Verify(ctx)
	v := api.Verification{Drift: make([]api.Drift, 0, len(drift)), Checked: checked}
	if err != nil {
		return v, err
	}
	left := map[overlay.Key]bool{}
	if repair && len(drift) > 0 {
		_ = m.overlay.Repair(ctx) // what failed differs still, and its error is in status
		after, _, err := m.overlay.Verify(ctx)
		if err != nil {
			return v, err
		}
		for _, d := range after {
			left[d.Object.Key()] = true
		}
	}
	for _, d := range drift {
		v.Drift = append(v.Drift, api.Drift{Object: d.Command, Kind: string(d.Kind), Network: d.Network, Host: m.host.Host().Name,
			Repaired: repair && !left[d.Object.Key()]})
	}
	return v, nil
}

// askAll asks the other members that run, side by side. Those that do not run, but may,
// are among the answers with the reason.
func askAll[A any](ctx context.Context, m *member, kind string, q any) []peers.One[A] {
	running, down := others(m)
	out := peers.All[A](ctx, m.directory.Call, running, askWait, kind, q)
	for _, o := range down {
		out = append(out, peers.One[A]{Host: o, Err: errors.New("it is " + o.Status.String())})
	}
	return out
}

// others are the members beside this one: those that run, and those that do not, but
// may.
func others(m *member) (running, down []discovery.Member) {
	for _, o := range m.directory.View().Members {
		switch {
		case o.ID == m.host.Host().ID || o.Status == discovery.StatusLeft:
		case o.Status == discovery.StatusAlive || o.Status == discovery.StatusSuspect:
			running = append(running, o)
		default:
			down = append(down, o)
		}
	}
	return running, down
}

// unasked says why a member did not answer.
func unasked(o discovery.Member, err error) api.Unasked {
	why := err.Error()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		why = "it did not answer within " + askWait.String()
	case errors.Is(err, peers.ErrUnknown):
		why = err.Error() + ": it runs agentd " + o.Version
	}
	return api.Unasked{Host: o.Name, Why: why}
}
