// Package trial is the connectivity suite: a list of checks between endpoints that it
// makes on every host for this purpose, and who runs it. What a host does when it is
// asked is package stage's.
package trial

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/trial/stage"
)

const (
	touchEvery  = 3 * time.Second // far more often than a run becomes an orphan
	openWait    = 5 * time.Second
	enterWait   = 15 * time.Second
	attemptWait = 25 * time.Second
	closeWait   = 25 * time.Second
)

// Host is a member that may take part.
type Host struct {
	Name string
	Addr netip.Addr // in the underlay
	Down string     // why it cannot be asked; empty: it can
}

// Cluster is what a run asks of the agent that it is asked of.
type Cluster interface {
	// Self is this host; Hosts are all members, this host among them.
	Self() string
	Hosts() []Host
	// Asking says that a run is under way here until done is called.
	Asking(run string) (done func())
	// Ask has a host, which may be this one, do something. The error is a sentence.
	Ask(ctx context.Context, host string, q stage.Question) (stage.Answer, error)
	NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error)
	NetworkRemove(ctx context.Context, nameOrID string, force bool) error
	Why(ctx context.Context, r api.WhyRequest) (api.Why, error)
}

// Run runs the suite once. What it made is removed when it returns, whatever ended it.
func Run(ctx context.Context, c Cluster, r api.TestRequest, by string, progress func(string)) (api.Test, error) {
	began := time.Now()
	if progress == nil {
		progress = func(string) {}
	}
	s := &suite{Cluster: c, perf: r.Perf, progress: progress, id: newID()}
	var err error
	if s.only, err = regexp.Compile(r.Run); err != nil {
		return api.Test{}, api.Errorf(api.KindMisuse, "test: run %s: %v", r.Run, err).WithHint("agentctl test --help")
	}
	if err := s.choose(r.Hosts); err != nil {
		return api.Test{}, err
	}
	defer s.Asking(s.id)()
	defer s.clean(context.WithoutCancel(ctx))
	if err := s.open(ctx, by); err != nil {
		return api.Test{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.touch(ctx)
	if err := s.build(ctx); err != nil {
		return api.Test{}, err
	}
	s.attemptAll(ctx, Checks(s.id, s.cast))
	s.moves(ctx)
	if s.perf {
		s.measure(ctx)
	}
	if ctx.Err() != nil {
		return api.Test{}, ctx.Err()
	}
	s.explain(ctx)
	return s.result(time.Since(began)), nil
}

// suite is one run.
type suite struct {
	Cluster
	id       string
	only     *regexp.Regexp
	perf     bool
	progress func(string)

	hosts    []Host            // that take part
	noDocker map[string]string // why hosts have no container
	cast     []Cast            // what they have, in the same order

	mu      sync.Mutex        // guards what follows
	lost    map[string]string // hosts that stopped answering, and how
	outcome []Outcome
	perfs   []api.TestPerf
	unasked []api.Unasked
	opened  []string // hosts that have to be told the end
	made    []string // networks
}

func newID() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// choose finds the hosts that were asked for. One that cannot be asked is named, and left
// out.
func (s *suite) choose(names []string) error {
	all := s.Hosts()
	for i, n := range names {
		names[i] = strings.ToLower(n)
		if !slices.ContainsFunc(all, func(h Host) bool { return h.Name == names[i] }) {
			return api.Errorf(api.KindNotFound, "test: no host %s", n).WithHint("agentctl members")
		}
	}
	slices.SortFunc(all, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range all {
		switch {
		case len(names) > 0 && !slices.Contains(names, h.Name):
		case h.Down != "":
			s.leaveOut(h.Name, h.Down)
		default:
			s.hosts = append(s.hosts, h)
		}
	}
	return nil
}

// leaveOut names a host that takes no part.
func (s *suite) leaveOut(host, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unasked = append(s.unasked, api.Unasked{Host: host, Why: why})
}

// open begins the run on each host, one after the other in the order of their names, so
// that of two runs that begin at once one is refused by the first host.
func (s *suite) open(ctx context.Context, by string) error {
	s.lost, s.noDocker = map[string]string{}, map[string]string{}
	by = strings.TrimSpace(by + " on " + s.Self())
	var take []Host
	for _, h := range s.hosts {
		ask, cancel := context.WithTimeout(ctx, openWait)
		a, err := s.Ask(ask, h.Name, stage.Question{Run: s.id, Do: stage.Open, By: by})
		cancel()
		switch {
		case err != nil:
			s.leaveOut(h.Name, err.Error())
			continue
		case a.Busy != "":
			return api.Errorf(api.KindConflict, "test: a run of %s is under way on %s", a.Busy, h.Name).WithHint("agentctl test # once it has ended: a run takes less than a minute")
		case a.Refused != "":
			s.outcome = append(s.outcome, Outcome{Check: Check{Name: "host/" + h.Name, Host: h.Name}, Skipped: a.Refused})
			continue
		}
		s.opened = append(s.opened, h.Name)
		s.noDocker[h.Name] = a.NoDocker
		take = append(take, h)
	}
	if s.hosts = take; len(take) == 0 {
		return api.Errorf(api.KindFailed, "test: no host takes part: %s", strings.Join(s.absent(), "; ")).WithHint("agentctl members")
	}
	return ctx.Err()
}

// absent says why hosts take no part.
func (s *suite) absent() (all []string) {
	for _, u := range s.unasked {
		all = append(all, u.Host+": "+u.Why)
	}
	for _, o := range s.outcome {
		if o.Skipped != "" {
			all = append(all, o.Host+": "+o.Skipped)
		}
	}
	return all
}

// touch keeps the run until ctx ends.
func (s *suite) touch(ctx context.Context) {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, h := range s.hosts {
			go func() {
				ask, cancel := context.WithTimeout(ctx, touchEvery)
				defer cancel()
				_, _ = s.Ask(ask, h.Name, stage.Question{Run: s.id, Do: stage.Touch}) // who does not answer is noticed by the checks
			}()
		}
	}
}

// clean tells every host the end, and removes the networks. A host that does not hear it
// removes its part by itself.
func (s *suite) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, host := range s.opened {
		wg.Go(func() {
			_, _ = s.Ask(ctx, host, stage.Question{Run: s.id, Do: stage.Close})
		})
	}
	wg.Wait()
	for _, name := range s.made {
		wg.Go(func() { _ = s.NetworkRemove(ctx, name, true) }) // what stays is swept by the stage
	}
	wg.Wait()
}

// lose notes a host that does not answer any more.
func (s *suite) lose(ctx context.Context, host string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lost[host]; !ok && ctx.Err() == nil {
		s.lost[host] = err.Error()
		s.unasked = append(s.unasked, api.Unasked{Host: host, Why: err.Error()})
	}
}

// result is what the user sees.
func (s *suite) result(took time.Duration) api.Test {
	out := api.Test{ID: s.id, Took: took.Milliseconds(), Perf: s.perfs, Unasked: s.unasked}
	for _, h := range s.hosts {
		out.Hosts = append(out.Hosts, h.Name)
	}
	slices.SortStableFunc(s.outcome, func(a, b Outcome) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range s.outcome {
		c := api.TestCheck{Name: o.Name, Host: o.Host, State: "passed", Took: o.Took.Milliseconds(), Hint: o.Hint}
		switch {
		case o.Skipped != "":
			c.State, c.Why = "skipped", o.Skipped
			out.Skipped++
		case o.Failed != "":
			c.State, c.Why = "failed", o.Failed
			out.Failed++
		default:
			out.Passed++
		}
		out.Checks = append(out.Checks, c)
	}
	return out
}

// Summary is one sentence about a run.
func Summary(t api.Test) string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.Passed, t.Failed, t.Skipped)
}
