package stage

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/overlay"
)

const (
	tryFor    = 1200 * time.Millisecond // one conversation
	silentFor = 600 * time.Millisecond  // one that must not come about
	tryAgain  = 100 * time.Millisecond
	patient   = 10 * time.Second // the most that a Try may ask for
	rateFor   = 6 * time.Second  // one that measures
	largest   = 32 << 20         // bytes
	rttCount  = 5
)

// attempt makes tries side by side.
func (s *Stage) attempt(ctx context.Context, r *run, tries []Try) (Answer, error) {
	if len(tries) > mostTries {
		return Answer{}, fmt.Errorf("%d tries at a time, at most %d", len(tries), mostTries)
	}
	known, err := s.known(ctx, r.id)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{Results: make([]Result, len(tries))}
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, t := range tries {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			out.Results[i] = s.one(ctx, r, t, known)
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

// known returns what tells the addresses that a run may send to: those of its own
// networks, and of the members.
func (s *Stage) known(ctx context.Context, run string) (func(netip.Addr) bool, error) {
	networks, err := s.cfg.Host.Networks(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.cfg.Host.Members(ctx)
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil && n.Labels[LabelRun] == run {
				all = append(all, p)
			}
		}
	}
	for _, m := range members {
		if a, err := netip.ParseAddr(m.Address); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
	}, nil
}

// one makes a try until it comes out as wanted.
func (s *Stage) one(ctx context.Context, r *run, t Try, known func(netip.Addr) bool) (out Result) {
	began := time.Now()
	defer func() {
		if out.Took == 0 { // else it was measured
			out.Took = time.Since(began)
		}
	}()
	from := &actor{}
	if t.From != "" {
		r.mu.Lock()
		from = r.actors[t.From]
		r.mu.Unlock()
	}
	switch {
	case from == nil:
		return Result{Says: "there is no endpoint " + t.From + " on " + s.cfg.Self()}
	case t.Kind != Name && !known(t.To.Addr()):
		return Result{Says: t.To.Addr().String() + " is neither of the run nor a member"}
	case t.Size < 0 || t.Size > largest:
		return Result{Says: fmt.Sprintf("%d bytes are too many", t.Size)}
	}
	for late := began.Add(min(t.Patience, patient)); ; {
		if out = s.once(ctx, from, t); out.OK || ctx.Err() != nil || time.Now().After(late) {
			return out
		}
		time.Sleep(tryAgain)
	}
}

// once makes a try.
func (s *Stage) once(ctx context.Context, from *actor, t Try) Result {
	wait := tryFor
	if t.Silent {
		wait = silentFor
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var got string
	var err error
	switch t.Kind {
	case Rate, RTT:
		return s.measure(from, t)
	case TCP, UDP:
		got, err = s.cfg.Within.Speak(ctx, from.path, overlay.Speech{Proto: t.Kind, Dst: t.To, Size: t.Size})
	case Echo:
		got, err = s.echo(ctx, from, t)
	case Name, Reverse:
		return s.resolve(ctx, from, t)
	default:
		return Result{Says: fmt.Sprintf("%q is no kind of try of this release", t.Kind)}
	}
	switch {
	case t.Silent && err != nil:
		return Result{OK: true}
	case t.Silent:
		return Result{Says: "it is answered, and must not be"}
	case err != nil:
		return Result{Says: err.Error()}
	case got != t.Want:
		return Result{Says: fmt.Sprintf("%s answers, not %s", got, t.Want)}
	}
	return Result{OK: true}
}

// echo sends one ICMP echo; whoever has the address answers as wanted.
func (s *Stage) echo(ctx context.Context, from *actor, t Try) (string, error) {
	all, err := s.cfg.Within.Ping(ctx, from.path, overlay.Echoes{Dst: t.To.Addr(), Count: 1, Size: t.Size, Whole: t.Whole})
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", fmt.Errorf("no answer")
	case all[0].Trial != overlay.TrialAnswered:
		return "", fmt.Errorf("%s", all[0].Trial)
	}
	return t.Want, nil
}

// resolve asks the DNS server of the actor's network.
func (s *Stage) resolve(ctx context.Context, from *actor, t Try) Result {
	asked := t.Asked
	if t.Kind == Reverse {
		asked = t.To.Addr().String()
	}
	values, err := s.cfg.Within.Resolve(ctx, from.path, netip.AddrPortFrom(from.gateway, 53), asked, t.Kind == Reverse)
	found := slices.ContainsFunc(values, func(v string) bool {
		return v == t.Want || t.Kind == Reverse && strings.HasPrefix(v, t.Want+".")
	})
	switch {
	case err != nil && t.Silent: // the question went to the host's resolvers, and nobody there answers
		return Result{OK: true}
	case err != nil:
		return Result{Says: err.Error()}
	case t.Silent && len(values) > 0:
		return Result{Says: fmt.Sprintf("%s is %s, and must not be", asked, strings.Join(values, ", "))}
	case !t.Silent && len(values) == 0:
		return Result{Says: "there is no name " + asked}
	case !t.Silent && (!found || len(values) > 1):
		return Result{Says: fmt.Sprintf("%s is %s, not %s", asked, strings.Join(values, ", "), t.Want)}
	}
	return Result{OK: true}
}

// measure says how long a large speech took, or the fastest of some echoes.
func (s *Stage) measure(from *actor, t Try) Result {
	ctx, cancel := context.WithTimeout(context.Background(), rateFor)
	defer cancel()
	if t.Kind == RTT {
		all, err := s.cfg.Within.Ping(ctx, from.path, overlay.Echoes{Dst: t.To.Addr(), Count: rttCount, Size: t.Size})
		least := time.Duration(0)
		for _, e := range all {
			if e.Trial == overlay.TrialAnswered && (least == 0 || e.Took < least) {
				least = e.Took
			}
		}
		return Result{OK: err == nil && least > 0, Took: least}
	}
	began := time.Now()
	_, err := s.cfg.Within.Speak(ctx, from.path, overlay.Speech{Proto: TCP, Dst: t.To, Size: t.Size})
	if err != nil {
		return Result{Says: err.Error()}
	}
	return Result{OK: true, Took: time.Since(began)}
}
