package trial_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/trial"
	"github.com/weft-net/weft/agent/trial/stage"
)

// cast is one of so many hosts.
func cast(hosts int) (all []trial.Cast) {
	for i := range hosts {
		c := trial.Cast{Host: fmt.Sprintf("h%d", i+1), Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Port: 27000, Actors: map[string]stage.Placed{}}
		for k, role := range []string{"a1", "a2", "b1", "c1"} {
			c.Actors[role] = stage.Placed{Addr: netip.AddrFrom4([4]byte{10, 64, byte(k), byte(i + 2)}), MTU: 1450}
		}
		all = append(all, c)
	}
	return all
}

func TestChecksCoverEveryPairBothWays(t *testing.T) {
	all := trial.Checks("0a1b2c3d", cast(3))
	names := map[string]bool{}
	for _, c := range all {
		if names[c.Name] {
			t.Errorf("%s: twice", c.Name)
		}
		names[c.Name] = true
		if c.Lacks != "" {
			t.Errorf("%s lacks %s", c.Name, c.Lacks)
		}
		if c.Try.Silent && c.Ask[0] != "" {
			t.Errorf("%s: why is asked about what must not work", c.Name)
		}
	}
	for _, what := range []string{"pair/tcp", "pair/udp", "size/full", "size/fragments", "size/bulk", "isolated/network", "internal/tcp", "internal/closed", "egress/host", "published/tcp", "dns/name"} {
		for _, pair := range []string{"h1-h2", "h2-h1", "h1-h3", "h3-h1", "h2-h3", "h3-h2"} {
			if !names[what+"/"+pair] {
				t.Errorf("no %s/%s", what, pair)
			}
		}
	}
	if len(all) < 60 {
		t.Errorf("%d checks", len(all))
	}
	if one := trial.Checks("0a1b2c3d", cast(1)); len(one) < 10 || slices.ContainsFunc(one, func(c trial.Check) bool { return c.Host != c.Peer }) {
		t.Errorf("of one host: %+v", one)
	}
}

func TestWhatIsNotThereIsNotTried(t *testing.T) {
	broken := cast(2)
	delete(broken[1].Actors, "a1")
	broken[1].Port = 0
	lacking := 0
	for _, c := range trial.Checks("0a1b2c3d", broken) {
		touched := c.Try.From == trial.Actor("0a1b2c3d", "a1", 1) || c.Try.Want == "invalid IP" || c.Try.Kind != stage.Name && !c.Try.To.Addr().IsValid()
		if touched != (c.Lacks != "") {
			t.Errorf("%s: lacks %q", c.Name, c.Lacks)
		}
		if touched {
			lacking++
		}
	}
	if lacking < 8 {
		t.Errorf("%d", lacking)
	}
}

// fake is a cluster in memory on which every check comes out as it says.
type fake struct {
	mu      sync.Mutex
	asked   map[string][]string // what each host was asked to do
	answers map[string]stage.Answer
	errs    map[string]error // of host and what it is asked to do
	fails   string           // a kind of try that fails
	removed []string
	created []api.NetworkCreateRequest
}

func (f *fake) Self() string { return "h1" }

func (f *fake) Hosts() []trial.Host {
	return []trial.Host{{Name: "h2", Addr: netip.MustParseAddr("192.0.2.2")}, {Name: "h1", Addr: netip.MustParseAddr("192.0.2.1")}, {Name: "h3", Down: "it is dead"}}
}

func (f *fake) Ask(_ context.Context, host string, q stage.Question) (stage.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[host] = append(f.asked[host], q.Do)
	if err := f.errs[host+" "+q.Do]; err != nil {
		return stage.Answer{}, err
	}
	a := f.answers[host+" "+q.Do]
	switch q.Do {
	case stage.Enter:
		a.Placed = &stage.Placed{Addr: netip.MustParseAddr("10.64.0.9"), MTU: 1450}
	case stage.Attempt:
		for _, t := range q.Tries {
			a.Results = append(a.Results, stage.Result{OK: t.Kind != f.fails, Says: "no answer"})
		}
	}
	return a, nil
}

func (f *fake) Asking(string) func() { return func() {} }

func (f *fake) NetworkCreate(_ context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	f.created = append(f.created, r)
	return api.NetworkCreateResult{}, nil
}

func (f *fake) NetworkRemove(_ context.Context, name string, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, name)
	return nil
}

func (f *fake) Why(_ context.Context, r api.WhyRequest) (api.Why, error) {
	return api.Why{Sentence: "because of " + r.To, Hint: "agentctl status"}, nil
}

func newFake() *fake {
	return &fake{asked: map[string][]string{}, answers: map[string]stage.Answer{}, errs: map[string]error{}}
}

// run runs the suite, and sees that what was made is removed.
func (f *fake) run(t *testing.T, r api.TestRequest) (api.Test, error) {
	t.Helper()
	out, err := trial.Run(t.Context(), f, r, "alice", nil)
	for host, did := range f.asked {
		if opened := f.errs[host+" open"] == nil && f.answers[host+" open"].Busy == "" && f.answers[host+" open"].Refused == ""; opened && did[len(did)-1] != stage.Close {
			t.Errorf("%s was not told the end: %q", host, did)
		}
	}
	if len(f.removed) != len(f.created) {
		t.Errorf("made %d networks, removed %q", len(f.created), f.removed)
	}
	return out, err
}

func TestARunCountsAndExplains(t *testing.T) {
	f := newFake()
	out, err := f.run(t, api.TestRequest{})
	if err != nil || out.Failed+out.Skipped > 0 || out.Passed < 40 || strings.Join(out.Hosts, " ") != "h1 h2" || len(out.Unasked) != 1 || out.Unasked[0].Why != "it is dead" {
		t.Errorf("%+v, %v", out, err)
	}
	if f.created[0].Labels[stage.LabelRun] != out.ID || f.created[0].Labels[stage.LabelBy] != "h1" || !f.created[2].Internal {
		t.Errorf("%+v", f.created)
	}
	f = newFake()
	f.fails = stage.Echo
	out, err = f.run(t, api.TestRequest{Run: "^size/full/"})
	if err != nil || out.Failed != 2 || out.Passed+out.Skipped > 0 || !strings.HasPrefix(out.Checks[0].Why, "no answer; because of a1-2-") || out.Checks[0].Hint != "agentctl status" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestHostsThatTakeNoPart(t *testing.T) {
	f := newFake()
	f.answers["h2 open"] = stage.Answer{Refused: "test_peers: false"}
	out, err := f.run(t, api.TestRequest{Hosts: []string{"H1", "h2"}, Run: "^host/|^local/tcp"})
	if err != nil || out.Passed != 1 || out.Skipped != 1 || out.Checks[0].Name != "host/h2" || out.Checks[0].Why != "test_peers: false" || len(out.Unasked) > 0 {
		t.Errorf("refused: %+v, %v", out, err)
	}
	f = newFake()
	f.answers["h2 open"] = stage.Answer{Busy: "bob on h2, since 10:00:00Z"}
	if _, err := f.run(t, api.TestRequest{}); api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), "bob on h2") {
		t.Errorf("busy: %v", err)
	}
	f = newFake()
	f.errs["h2 open"] = errors.New("the member does not know this question: its release is older or newer: it runs agentd 0.1.0")
	if out, err := f.run(t, api.TestRequest{}); err != nil || len(out.Unasked) != 2 || !strings.Contains(out.Unasked[1].Why, "0.1.0") || strings.Join(out.Hosts, " ") != "h1" {
		t.Errorf("older: %+v, %v", out, err)
	}
	f = newFake()
	f.errs["h2 attempt"] = errors.New("it does not answer")
	out, err = f.run(t, api.TestRequest{})
	if err != nil || out.Failed > 0 || out.Skipped < 20 || len(out.Unasked) != 2 {
		t.Errorf("gone half-way: %d failed, %d skipped, %+v, %v", out.Failed, out.Skipped, out.Unasked, err)
	}
	for _, r := range []api.TestRequest{{Hosts: []string{"h9"}}, {Run: "("}} {
		if _, err := f.run(t, r); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}
