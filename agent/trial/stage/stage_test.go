package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/trial/stage"
	"github.com/weft-net/weft/overlay"
)

const id = "0a1b2c3d"

// house is an agent and its namespaces in memory.
type house struct {
	mu        sync.Mutex
	endpoints map[string]api.Endpoint
	networks  []api.Network
	rooms     int // that are open
	servers   int
	deaf      bool
}

func newHouse() *house {
	h := &house{endpoints: map[string]api.Endpoint{}}
	h.network(stage.NetworkName(id, "a"), map[string]string{stage.LabelRun: id, stage.LabelBy: "h2", stage.LabelUntil: stage.Until(time.Now())})
	return h
}

func (h *house) network(name string, labels map[string]string) {
	h.networks = append(h.networks, api.Network{Name: name, Labels: labels, IPAM: api.IPAM{Config: []api.IPAMConfig{{Subnet: "10.64.0.0/20"}}}})
}

func (h *house) Attach(_ context.Context, r api.AttachRequest) (api.Attachment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.IP == "10.64.0.99" {
		return api.Attachment{}, errors.New("10.64.0.99 is held by web")
	}
	h.endpoints[r.Name] = api.Endpoint{ID: r.Name, Name: r.Name, Network: r.Network, Labels: r.Labels, Local: true}
	return api.Attachment{Address: "10.64.0.2/20", DNS: []string{"10.64.0.1"}, MTU: 1450}, nil
}

func (h *house) Detach(_ context.Context, _, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.endpoints, name)
	return nil
}

func (h *house) Endpoints(context.Context, api.EndpointFilter) (all []api.Endpoint, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.endpoints {
		all = append(all, e)
	}
	return all, nil
}

func (h *house) Networks(context.Context) ([]api.Network, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.networks), nil
}

func (h *house) NetworkRemove(_ context.Context, name string, _ bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.networks = slices.DeleteFunc(h.networks, func(n api.Network) bool { return n.Name == name })
	return nil
}

func (*house) Members(context.Context) ([]api.Member, error) {
	return []api.Member{{Name: "h1", Address: "192.0.2.1"}}, nil
}

// count adds to a counter now, and takes it back when what it returns is closed.
func (h *house) count(of *int) io.Closer {
	h.mu.Lock()
	defer h.mu.Unlock()
	*of++
	return closer(func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		*of--
		return nil
	})
}

type closer func() error

func (c closer) Close() error { return c() }

func (h *house) Make() (string, io.Closer, error) { return "/proc/1/fd/9", h.count(&h.rooms), nil }

func (h *house) Serve(string, netip.AddrPort, string) (io.Closer, error) {
	return h.count(&h.servers), nil
}

func (h *house) Speak(ctx context.Context, path string, s overlay.Speech) (string, error) {
	if h.deaf {
		<-ctx.Done()
		return "", errors.New("no answer")
	}
	return "a1", nil
}

func (*house) Ping(context.Context, string, overlay.Echoes) ([]overlay.Echo, error) {
	return []overlay.Echo{{Trial: overlay.TrialAnswered, Took: time.Millisecond}}, nil
}

func (*house) Resolve(_ context.Context, _ string, _ netip.AddrPort, name string, reverse bool) ([]string, error) {
	switch {
	case reverse:
		return []string{"a1.weft-test.weft.internal."}, nil
	case name == "a1":
		return []string{"10.64.0.2"}, nil
	}
	return nil, nil
}

// left says what there is of runs.
func (h *house) left() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d endpoints, %d networks, %d namespaces, %d servers", len(h.endpoints), len(h.networks), h.rooms, h.servers)
}

func (h *house) stage(refuses bool) *stage.Stage {
	return stage.New(stage.Config{Host: h, Within: h, Self: func() string { return "h1" }, Refuses: refuses, Log: slog.New(slog.DiscardHandler)})
}

// must is a Do that works.
func must(t *testing.T, s *stage.Stage, q stage.Question) stage.Answer {
	t.Helper()
	a, err := s.Do(t.Context(), q)
	if err != nil {
		t.Fatalf("%s: %v", q.Do, err)
	}
	return a
}

func begin(t *testing.T, s *stage.Stage) {
	t.Helper()
	must(t, s, stage.Question{Run: id, Do: stage.Open, By: "alice on h2"})
	a := must(t, s, stage.Question{Run: id, Do: stage.Enter, Actor: &stage.Actor{Name: "a1", Network: stage.NetworkName(id, "a")}})
	if a.Placed == nil || a.Placed.Addr.String() != "10.64.0.2" || a.Placed.MTU != 1450 {
		t.Fatalf("%+v", a)
	}
}

func TestOneRunAtATime(t *testing.T) {
	h := newHouse()
	s := h.stage(false)
	begin(t, s)
	if a := must(t, s, stage.Question{Run: "ffffffff", Do: stage.Open}); !strings.HasPrefix(a.Busy, "alice on h2, since ") {
		t.Errorf("%+v", a)
	}
	for _, q := range []stage.Question{{Run: "ffffffff", Do: stage.Touch}, {Run: id, Do: "dance"}, {Run: "../../etc", Do: stage.Open}, {Run: id, Do: stage.Enter},
		{Run: id, Do: stage.Exit, Actor: &stage.Actor{Name: "b1"}}, {Run: id, Do: stage.Enter, Actor: &stage.Actor{Name: "b1", IP: "10.64.0.99"}},
		{Run: id, Do: stage.Enter, Actor: &stage.Actor{Name: "b1", Network: "backend"}}} {
		if a, err := s.Do(t.Context(), q); err == nil && a.Busy == "" {
			t.Errorf("%+v is taken", q)
		}
	}
	must(t, s, stage.Question{Run: id, Do: stage.Close})
	if got := h.left(); got != "0 endpoints, 1 networks, 0 namespaces, 0 servers" {
		t.Error(got)
	}
	if a := must(t, h.stage(true), stage.Question{Run: id, Do: stage.Open}); !strings.Contains(a.Refused, "test_peers: false") {
		t.Errorf("%+v", a)
	}
}

func TestTriesComeOutAsWanted(t *testing.T) {
	h := newHouse()
	s := h.stage(false)
	begin(t, s)
	to := netip.MustParseAddrPort("10.64.0.2:7007")
	for _, c := range []struct {
		try  stage.Try
		says string // empty: as wanted
	}{
		{stage.Try{From: "a1", Kind: stage.TCP, To: to, Want: "a1"}, ""},
		{stage.Try{From: "a1", Kind: stage.TCP, To: to, Want: "b1"}, "a1 answers, not b1"},
		{stage.Try{From: "a1", Kind: stage.UDP, To: to, Silent: true}, "it is answered, and must not be"},
		{stage.Try{From: "z9", Kind: stage.TCP, To: to}, "there is no endpoint z9 on h1"},
		{stage.Try{Kind: stage.Echo, To: netip.MustParseAddrPort("192.0.2.1:0")}, ""},
		{stage.Try{Kind: stage.Echo, To: netip.MustParseAddrPort("198.51.100.1:0")}, "198.51.100.1 is neither of the run nor a member"},
		{stage.Try{From: "a1", Kind: stage.Name, Asked: "a1", Want: "10.64.0.2"}, ""},
		{stage.Try{From: "a1", Kind: stage.Name, Asked: "a1", Want: "10.64.0.3"}, "a1 is 10.64.0.2, not 10.64.0.3"},
		{stage.Try{From: "a1", Kind: stage.Name, Asked: "b1", Want: "10.64.0.3"}, "there is no name b1"},
		{stage.Try{From: "a1", Kind: stage.Name, Asked: "b1", Silent: true}, ""},
		{stage.Try{From: "a1", Kind: stage.Name, Asked: "a1", Silent: true}, "a1 is 10.64.0.2, and must not be"},
		{stage.Try{From: "a1", Kind: stage.Reverse, To: to, Want: "a1"}, ""},
		{stage.Try{From: "a1", Kind: "smoke", To: to}, `"smoke" is no kind of try of this release`},
		{stage.Try{From: "a1", Kind: stage.TCP, To: to, Size: 1 << 30}, "1073741824 bytes are too many"},
	} {
		got := must(t, s, stage.Question{Run: id, Do: stage.Attempt, Tries: []stage.Try{c.try}}).Results[0]
		if got.OK != (c.says == "") || got.Says != c.says {
			t.Errorf("%+v: %+v, want %q", c.try, got, c.says)
		}
	}
}

// Who asks for a run may die, and so may an agent in it.
func TestNobodyAsksAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse()
		h.network("blue", map[string]string{stage.LabelRun: "somebody's own label"})
		h.network(stage.NetworkName("eeeeeeee", "a"), map[string]string{stage.LabelRun: "eeeeeeee", stage.LabelBy: "h1", stage.LabelUntil: stage.Until(time.Now())})
		h.endpoints["old"] = api.Endpoint{ID: "old", Name: "old", Network: stage.NetworkName("eeeeeeee", "a"), Labels: map[string]string{stage.LabelRun: "eeeeeeee"}, Local: true}
		h.endpoints["theirs"] = api.Endpoint{ID: "theirs", Name: "theirs", Network: "blue", Labels: map[string]string{stage.LabelRun: "eeeeeeee"}, Local: true}
		s := h.stage(false)
		h.network(stage.NetworkName("dddddddd", "a"), map[string]string{stage.LabelRun: "dddddddd", stage.LabelBy: "h1", stage.LabelUntil: stage.Until(time.Now())})
		asked := s.Asking("dddddddd") // without taking part
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		begin(t, s)
		time.Sleep(5 * time.Second)
		if got := h.left(); got != "2 endpoints, 3 networks, 1 namespaces, 1 servers" {
			t.Errorf("a run that is asked for here: %s", got)
		}
		asked()
		time.Sleep(5 * time.Second)
		if got := h.left(); got != "2 endpoints, 2 networks, 1 namespaces, 1 servers" {
			t.Errorf("what an agent before left is swept, and nothing else: %s", got)
		}
		for range 5 {
			time.Sleep(5 * time.Second)
			must(t, s, stage.Question{Run: id, Do: stage.Touch})
		}
		if got := h.left(); got != "2 endpoints, 2 networks, 1 namespaces, 1 servers" {
			t.Errorf("while somebody asks: %s", got)
		}
		time.Sleep(20 * time.Second)
		if got := h.left(); got != "1 endpoints, 1 networks, 0 namespaces, 0 servers" {
			t.Errorf("nobody asks any more: %s", got)
		}
		h.network(stage.NetworkName(id, "a"), map[string]string{stage.LabelRun: id, stage.LabelBy: "h2", stage.LabelUntil: stage.Until(time.Now())})
		begin(t, s)
		h.deaf = true
		stuck := make(chan stage.Answer, 1)
		go func() {
			a, _ := s.Do(context.Background(), stage.Question{Run: id, Do: stage.Attempt, Tries: []stage.Try{{From: "a1", Kind: stage.TCP, To: netip.MustParseAddrPort("10.64.0.2:7007"), Patience: 10 * time.Second}}})
			stuck <- a
		}()
		time.Sleep(time.Second)
		cancel() // the agent ends
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-stuck
		if got := h.left(); got != "1 endpoints, 2 networks, 0 namespaces, 0 servers" {
			t.Errorf("the agent has ended: %s", got)
		}
	})
}

// engine is Docker's in memory.
type engine struct {
	away       error
	containers map[string]string // name to the label's value
	failing    bool
}

func (e *engine) Usable() error { return e.away }

func (e *engine) Start(_ context.Context, network, name, label, value string) (string, netip.Addr, error) {
	e.containers[name] = value
	if e.failing {
		return "", netip.Addr{}, errors.New("Docker: no space left on device")
	}
	return "/proc/2/ns/net", netip.MustParseAddr("10.64.0.3"), nil
}

func (e *engine) Remove(_ context.Context, _, keep string) error {
	for name, value := range e.containers {
		if value != keep {
			delete(e.containers, name)
		}
	}
	return nil
}

// A container is entered where there is an engine, and removed with its run, also when
// its start failed half-way, or an agent before this one began it.
func TestContainersAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, e := newHouse(), &engine{containers: map[string]string{"old": "eeeeeeee"}, away: errors.New("the Docker engine does not answer")}
		s := stage.New(stage.Config{Host: h, Within: h, Engine: e, Self: func() string { return "h1" }, Log: slog.New(slog.DiscardHandler)})
		box := stage.Question{Run: id, Do: stage.Enter, Actor: &stage.Actor{Name: "d1", Network: stage.NetworkName(id, "a"), Container: true}}
		if a := must(t, s, stage.Question{Run: id, Do: stage.Open}); a.NoDocker != "the Docker engine does not answer" {
			t.Errorf("%+v", a)
		}
		if _, err := s.Do(t.Context(), box); err == nil {
			t.Error("a container without an engine")
		}
		e.away = nil
		if a := must(t, s, box); a.Placed == nil || a.Placed.Addr.String() != "10.64.0.3" {
			t.Errorf("%+v", a)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(5 * time.Second)
		if len(e.containers) != 1 || e.containers["d1"] != id {
			t.Errorf("what an agent before left, and nothing else: %v", e.containers)
		}
		must(t, s, stage.Question{Run: id, Do: stage.Close})
		must(t, s, stage.Question{Run: id, Do: stage.Open})
		e.failing = true
		if _, err := s.Do(t.Context(), box); err == nil || len(e.containers) != 1 {
			t.Errorf("%v, %v", err, e.containers)
		}
		must(t, s, stage.Question{Run: id, Do: stage.Close})
		if got := h.left(); len(e.containers) > 0 || got != "0 endpoints, 1 networks, 0 namespaces, 0 servers" {
			t.Errorf("%v, %s", e.containers, got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
