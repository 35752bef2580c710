package trial

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/trial/stage"
)

// build makes the networks, then the cast of every host side by side.
func (s *suite) build(ctx context.Context) error {
	s.progress(fmt.Sprintf("run %s: networks and endpoints on %d hosts", s.id, len(s.hosts)))
	for _, which := range []string{"a", "b", "c"} {
		name := stage.NetworkName(s.id, which)
		s.made = append(s.made, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), enterWait) // what is half made is hard to remove
		_, err := s.NetworkCreate(whole, api.NetworkCreateRequest{Name: name, Internal: which == "c",
			Labels: map[string]string{stage.LabelRun: s.id, stage.LabelBy: s.Self(), stage.LabelUntil: stage.Until(time.Now())}})
		cancel()
		if err != nil {
			return err
		}
	}
	s.cast = make([]Cast, len(s.hosts))
	var wg sync.WaitGroup
	for i, h := range s.hosts {
		s.cast[i] = Cast{Host: h.Name, Addr: h.Addr, Actors: map[string]stage.Placed{}}
		wg.Go(func() { s.enterAll(ctx, i) })
	}
	wg.Wait()
	return ctx.Err()
}

// enterAll makes the cast of a host. What cannot be made is a check that failed.
func (s *suite) enterAll(ctx context.Context, i int) {
	c := &s.cast[i]
	all := roles
	if why := s.noDocker[c.Host]; why != "" {
		s.note(Outcome{Check: Check{Name: "docker/" + c.Host, Host: c.Host}, Skipped: why})
	} else {
		all = append(slices.Clone(roles), role{"d1", "a"})
	}
	for _, r := range all {
		a := stage.Actor{Name: Actor(s.id, r.role, i), Network: stage.NetworkName(s.id, r.network), Aliases: []string{alias(s.id, r.role, i)}}
		if r.role == "d1" {
			a.Aliases, a.Container = nil, true
		}
		port := uint16(0)
		if r.role == "a1" {
			port = anyPort()
			a.Ports = []string{fmt.Sprintf("%d:%d", port, stage.Port), fmt.Sprintf("%d:%d/udp", port, stage.Port)}
		}
		placed, err := s.enter(ctx, c.Host, a)
		for range 3 { // somebody may have the port
			if err == nil || port == 0 || !strings.Contains(err.Error(), fmt.Sprint(port)) {
				break
			}
			port = anyPort()
			a.Ports = []string{fmt.Sprintf("%d:%d", port, stage.Port), fmt.Sprintf("%d:%d/udp", port, stage.Port)}
			placed, err = s.enter(ctx, c.Host, a)
		}
		o := Outcome{Check: Check{Name: "attach/" + r.role + "/" + c.Host, Host: c.Host}}
		if err != nil {
			o.Failed, o.Hint, o.Always = err.Error(), "agentctl status # on "+c.Host, true
		} else {
			c.Actors[r.role] = placed
			if port != 0 {
				c.Port = port
			}
		}
		s.note(o)
	}
}

// anyPort is one that programs do not listen on by custom, and below those that the
// kernel gives to connections (ip-sysctl, ip_local_port_range).
func anyPort() uint16 { return uint16(27000 + rand.IntN(5000)) }

func (s *suite) enter(ctx context.Context, host string, a stage.Actor) (stage.Placed, error) {
	ctx, cancel := context.WithTimeout(ctx, enterWait)
	defer cancel()
	got, err := s.Ask(ctx, host, stage.Question{Run: s.id, Do: stage.Enter, Actor: &a})
	if err == nil && got.Placed == nil {
		err = fmt.Errorf("%s did not say where %s is", host, a.Name)
	}
	if err != nil {
		return stage.Placed{}, err
	}
	return *got.Placed, nil
}

// note keeps an outcome if it was asked for, and shows one that failed.
func (s *suite) note(o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Always || s.only.MatchString(o.Name) {
		s.outcome = append(s.outcome, o)
	}
}

// attemptAll has each host make its checks.
func (s *suite) attemptAll(ctx context.Context, checks []Check) {
	by := map[string][]Check{}
	for _, c := range checks {
		switch {
		case !s.only.MatchString(c.Name):
		case c.Lacks != "":
			s.note(Outcome{Check: c, Skipped: c.Lacks + " is not there"})
		default:
			by[c.Host] = append(by[c.Host], c)
		}
	}
	s.progress(fmt.Sprintf("run %s: checks from %d hosts", s.id, len(by)))
	var wg sync.WaitGroup
	for host, mine := range by {
		wg.Go(func() {
			for some := range slices.Chunk(mine, 24) {
				s.attempt(ctx, host, some)
			}
		})
	}
	wg.Wait()
}

// attempt has a host make some checks.
func (s *suite) attempt(ctx context.Context, host string, checks []Check) {
	ctx, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	tries := make([]stage.Try, len(checks))
	for i, c := range checks {
		tries[i] = c.Try
	}
	a, err := s.Ask(ctx, host, stage.Question{Run: s.id, Do: stage.Attempt, Tries: tries})
	if err == nil && len(a.Results) != len(checks) {
		err = fmt.Errorf("%d results for %d checks", len(a.Results), len(checks))
	}
	if err != nil {
		s.lose(context.WithoutCancel(ctx), host, err)
	}
	for i, c := range checks {
		o := Outcome{Check: c}
		switch {
		case err != nil:
			o.Skipped = host + " did not make it: " + err.Error()
		case !a.Results[i].OK:
			o.Took, o.Failed = a.Results[i].Took, a.Results[i].Says
		default:
			o.Took = a.Results[i].Took
		}
		s.note(o)
	}
}

// stopsMost is how many hosts an endpoint moves to.
const stopsMost = 5

// moves has an endpoint go from host to host under one name and address; each of the
// others must find it there.
func (s *suite) moves(ctx context.Context) {
	if len(s.hosts) < 2 || !s.wantsMoves() {
		return
	}
	name, network, addr := "m-"+s.id, stage.NetworkName(s.id, "a"), netip.Addr{}
	stops := s.hosts[:min(len(s.hosts), stopsMost)]
	for i, h := range stops {
		if ctx.Err() != nil || s.gone(h.Name) {
			return
		}
		a := stage.Actor{Name: name, Network: network}
		if addr.IsValid() {
			a.IP = addr.String()
		}
		placed, err := s.enter(ctx, h.Name, a)
		o := Outcome{Check: Check{Name: "move/to/" + h.Name, Host: h.Name}}
		if err != nil {
			o.Failed, o.Hint = err.Error(), "agentctl endpoint history "+name
		}
		s.note(o)
		if err != nil {
			return
		}
		addr = placed.Addr
		var checks []Check
		for k, from := range s.hosts {
			actor := Actor(s.id, "a2", k)
			t := stage.Try{From: actor, Patience: settling}
			t.Kind, t.Asked, t.Want = stage.Name, name, addr.String()
			checks = append(checks, Check{Name: fmt.Sprintf("move/name/%s-%s", from.Name, h.Name), Host: from.Name, Peer: h.Name, Try: t, Ask: [2]string{actor, name}})
			t.Kind, t.To, t.Want, t.Size = stage.TCP, netip.AddrPortFrom(addr, stage.Port), name, 1000
			checks = append(checks, Check{Name: fmt.Sprintf("move/tcp/%s-%s", from.Name, h.Name), Host: from.Name, Peer: h.Name, Try: t, Ask: [2]string{actor, name}})
		}
		s.attemptAll(ctx, checks)
		if i < len(stops)-1 {
			s.leave(ctx, h.Name, name)
		}
	}
}

// wantsMoves reports whether any check of a move was asked for.
func (s *suite) wantsMoves() bool {
	for _, h := range s.hosts {
		if s.only.MatchString("move/to/" + h.Name) {
			return true
		}
		for _, from := range s.hosts {
			if s.only.MatchString("move/name/"+from.Name+"-"+h.Name) || s.only.MatchString("move/tcp/"+from.Name+"-"+h.Name) {
				return true
			}
		}
	}
	return false
}

// leave takes the moving endpoint off a host.
func (s *suite) leave(ctx context.Context, host, name string) {
	ctx, cancel := context.WithTimeout(ctx, enterWait)
	defer cancel()
	if _, err := s.Ask(ctx, host, stage.Question{Run: s.id, Do: stage.Exit, Actor: &stage.Actor{Name: name}}); err != nil {
		s.note(Outcome{Check: Check{Name: "move/from/" + host, Host: host}, Failed: err.Error(), Hint: "agentctl status # on " + host})
	}
}

// gone reports whether a host stopped answering.
func (s *suite) gone(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.lost[host]
	return ok
}

const (
	whyMost   = 24 // pairs that why is asked about; the rest of a broken cluster is like them
	whyAtOnce = 6
)

// explain asks why of each pair of ends that failed, once; and takes checks against a
// host that stopped answering for what they are.
func (s *suite) explain(ctx context.Context) {
	said := map[[2]string]*api.Why{}
	for i := range s.outcome {
		o := &s.outcome[i]
		if why, ok := s.lost[o.Peer]; ok && o.Failed != "" {
			o.Failed, o.Skipped = "", o.Peer+" stopped answering: "+why
		}
		if o.Failed != "" && o.Ask[0] != "" && said[o.Ask] == nil && len(said) < whyMost {
			said[o.Ask] = &api.Why{}
		}
	}
	if len(said) > 0 {
		s.progress(fmt.Sprintf("run %s: why %d pairs fail", s.id, len(said)))
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, whyAtOnce)
	for ends, into := range said {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			y, err := s.Why(ctx, s.question(ends))
			if err == nil {
				*into = y
			}
		})
	}
	wg.Wait()
	for i := range s.outcome {
		o := &s.outcome[i]
		y := said[o.Ask]
		switch {
		case o.Failed == "" || o.Hint != "":
		case y != nil && y.Sentence != "" && !y.Works:
			o.Failed, o.Hint = o.Failed+"; "+y.Sentence, y.Hint
		case o.Ask[0] != "":
			o.Hint = fmt.Sprintf("agentctl test --run '%s' # again", o.Name)
		default:
			o.Hint = "agentctl verify --all"
		}
	}
}

// question is what why is asked about two ends: what listens there is known.
func (s *suite) question(ends [2]string) api.WhyRequest {
	r := api.WhyRequest{From: ends[0], To: ends[1], Port: stage.Port, Proto: "tcp"}
	if _, err := netip.ParseAddr(ends[1]); err == nil { // a host's, where nothing of ours listens
		r.Port = 0
	}
	return r
}
