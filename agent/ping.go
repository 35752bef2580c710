package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/agent/rows"
	"github.com/weft-net/weft/agent/why"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Bounds of a PingRequest.
const (
	pingMost    = 100
	pingLargest = 65000
	pingWithin  = 25 * time.Second // the longest one, and what why takes after it
)

// Ping implements api.Service. It is made by the host that the sender is on.
func (a service) Ping(ctx context.Context, r api.PingRequest) (api.Ping, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Ping{}, err
	}
	if err := checkPing(&r); err != nil {
		return api.Ping{}, err
	}
	w := witness{m}
	src, err := w.senders(r.From)
	if err != nil {
		return api.Ping{}, m.explain("ping", err)
	}
	if src[0].Host != m.host.Host().Name {
		return askThere[api.Ping](ctx, w, "ping", src[0], pingWithin, r)
	}
	return w.ping(ctx, src, r)
}

// pingFor answers a member whose user asked there.
func pingFor(a *Agent) peers.Answer {
	return peers.Handler(func(ctx context.Context, _ discovery.HostID, r api.PingRequest) (api.Ping, error) {
		m, err := a.requireMember()
		if err != nil {
			return api.Ping{}, err
		}
		if err := checkPing(&r); err != nil {
			return api.Ping{}, err
		}
		src, err := witness{m}.sendersHere(r.From)
		if err != nil {
			return api.Ping{}, err
		}
		return witness{m}.ping(ctx, src, r)
	})
}

// sendersHere are senders of this host alone.
func (w witness) sendersHere(word string) ([]why.End, error) {
	src, err := w.senders(word)
	if self := w.host.Host().Name; err == nil && src[0].Host != self {
		return nil, api.Errorf(api.KindNotFound, "no endpoint %s on %s", word, self)
	}
	return src, err
}

// askThere has the sender's host answer a question of this kind.
func askThere[A, Q any](ctx context.Context, w witness, kind string, src why.End, wait time.Duration, q Q) (A, error) {
	var none A
	host, ok := w.memberNamed(src.Host)
	if !ok || host.Status == discovery.StatusDead || host.Status == discovery.StatusAgentDown {
		return none, api.Errorf(api.KindFailed, "%s: %s is on %s, which is %s", kind, src.Name, src.Host, host.Status).WithHint("agentctl members")
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	out, err := peers.Ask[A](ctx, w.directory.Call, host.ID, kind, q)
	if err != nil {
		return out, api.Errorf(api.KindFailed, "%s: %s is on %s: %s", kind, src.Name, src.Host, unasked(host, err).Why).WithHint("agentctl %s --help # the same, typed on %s", kind, src.Host)
	}
	return out, nil
}

// checkPing fills in what was not said, and refuses what cannot be sent.
func checkPing(r *api.PingRequest) error {
	for _, v := range []struct {
		what        string
		value       *int
		unset, most int
	}{{"count", &r.Count, 4, pingMost}, {"size", &r.Size, 56, pingLargest}} {
		if *v.value < 0 || *v.value > v.most {
			return api.Errorf(api.KindMisuse, "ping: %s %d: 1 to %d", v.what, *v.value, v.most).WithHint("agentctl ping --help")
		}
		if *v.value == 0 {
			*v.value = v.unset
		}
	}
	if r.To == "" {
		return api.Errorf(api.KindMisuse, "ping: to: missing").WithHint("agentctl ping --help")
	}
	if r.From == "" {
		r.From = "host"
	}
	return nil
}

// ping sends the echoes; why is asked when none comes back.
func (w witness) ping(ctx context.Context, src []why.End, r api.PingRequest) (api.Ping, error) {
	dst, name := w.destination(ctx, src, r.To)
	from := sameNetwork(src, dst)
	out := api.Ping{From: from.Name, To: r.To, Host: dst.Host, Way: wayBetween(from, dst), Sent: r.Count, Loss: 100}
	if !dst.Addr.IsValid() {
		y := why.Explain(why.Facts{Src: from, Dst: dst, Name: name, Proto: "icmp"})
		return out, api.Errorf(api.KindNotFound, "ping: %s", y.Sentence).WithHint("%s", y.Hint)
	}
	out.Address = dst.Addr.String()
	all, err := w.machine.Ping(ctx, from.Sandbox, overlay.Echoes{Src: from.Addr, Dst: dst.Addr, Count: r.Count, Size: r.Size, Whole: r.Whole})
	if err != nil {
		return out, api.Errorf(api.KindFailed, "ping: from %s: %v", from.Name, err).WithHint("agentctl why %s %s", r.From, r.To)
	}
	count(&out, all)
	if out.Received > 0 {
		return out, nil
	}
	if y := w.why(ctx, src, api.WhyRequest{From: r.From, To: r.To, Proto: "tcp"}); !y.Works {
		out.Why, out.Hint = y.Sentence, y.Hint
	} else {
		out.Why = fmt.Sprintf("%s reaches %s with a small packet, and not with %d bytes", from.Name, r.To, r.Size)
		out.Hint = "agentctl ping --all # shows the size that passes"
	}
	return out, nil
}

// sameNetwork is the sender's end on the receiver's network; without one, its first.
func sameNetwork(src []why.End, dst why.End) why.End {
	for _, s := range src {
		if s.Network == dst.Network {
			return s
		}
	}
	return src[0]
}

// wayBetween is by what the packets travel.
func wayBetween(src, dst why.End) string {
	switch {
	case dst.Kind == why.Outside:
		return "out of " + src.Host
	case dst.Host == src.Host && dst.Kind == why.Host:
		return "on " + src.Host
	case dst.Host == src.Host:
		return "bridge of " + src.Host
	case dst.Kind == why.Host:
		return "out of " + src.Host + " to " + dst.Host
	}
	return "tunnel to " + dst.Host
}

// count fills in what came back.
func count(p *api.Ping, all []overlay.Echo) {
	p.Sent = len(all)
	for i, e := range all {
		us := max(e.Took.Microseconds(), 1)
		if e.Trial != overlay.TrialAnswered {
			us = 0
		} else {
			if p.Received == 0 || us < p.Least {
				p.Least = us
			}
			p.Received++
			p.Mean += us
			p.Most = max(p.Most, us)
		}
		p.Replies = append(p.Replies, api.PingReply{Seq: i + 1, State: string(e.Trial), RTT: us})
	}
	if p.Received > 0 {
		p.Mean /= int64(p.Received)
	}
	if p.Sent > 0 {
		p.Loss = 100 * float64(p.Sent-p.Received) / float64(p.Sent)
	}
}

// Mesh implements api.Service.
func (a service) Mesh(ctx context.Context, refresh bool) (api.Mesh, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Mesh{}, err
	}
	out := api.Mesh{}
	theirs := make(chan []peers.One[api.Mesh], 1)
	go func() { theirs <- askAll[api.Mesh](ctx, m, "mesh", meshQuestion{refresh}) }()
	own, _ := a.meshFor(ctx, discovery.HostID{}, meshQuestion{refresh})
	add := func(host string, part api.Mesh) {
		out.Hosts = append(out.Hosts, host)
		for _, way := range part.Ways {
			way.From = host // what it calls itself is not its to say
			out.Ways = append(out.Ways, way)
		}
	}
	add(m.host.Host().Name, own)
	for _, one := range <-theirs {
		if one.Err != nil {
			out.Unasked = append(out.Unasked, unasked(one.Host, one.Err))
			continue
		}
		add(one.Host.Name, one.Answer)
	}
	return out, nil
}

// meshQuestion is what Mesh asks each member.
type meshQuestion struct {
	Refresh bool `json:"refresh"`
}

// meshFor answers a member with what this host says of the tunnel to each other.
func (a service) meshFor(ctx context.Context, _ discovery.HostID, q meshQuestion) (api.Mesh, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Mesh{}, err
	}
	if q.Refresh {
		ctx, cancel := context.WithTimeout(ctx, refreshFor)
		defer cancel()
		_ = m.tunnel.Refresh(ctx) // what was not proven says so
	}
	return api.Mesh{Ways: rows.Ways(m.tunnel.Proofs())}, nil
}
