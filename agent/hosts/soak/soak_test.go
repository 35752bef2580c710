package soak_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// soak is five hosts on one network. Faults of the kernel fall on the first three; those
// of an agent, and of the store, on all. Endpoints on the other two ping each other. A
// sixth host, the spare, has no agent until a fault starts one.
type soak struct {
	t      *testing.T
	l      *agenttest.Lab
	hosts  []*agenttest.Host
	spare  *agenttest.Host
	canary map[string]canary // by host
	ledger ledger
	vni    uint32

	mu      sync.Mutex // guards what the load counts
	cycles  int
	longest time.Duration
}

type canary struct {
	*agenttest.Sandbox
	agenttest.Attachment
}

const (
	members = 5
	touched = 3 // hosts that faults of the kernel fall on

	subnet = "10.71.0.0/25"
	part   = "10.71.0.0/26" // of it
)

func TestFaultsAtRandomUnderLoad(t *testing.T) {
	chosen := cmp.Or(*seed, rand.Uint64())
	t.Logf("make soak DURATION=%v SEED=%d", *duration, chosen)
	s := newSoak(t)
	pings := s.pingUntouched()
	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, h := range s.hosts {
		load.Go(func() { s.attachAndDetach(h, stop) })
	}
	seen := s.inject(rand.New(rand.NewPCG(chosen, 0)))
	close(stop)
	load.Wait()

	sent, received := 0, 0
	for _, p := range pings {
		out, back := p.Stop()
		sent, received = sent+out, received+back
	}
	if sent != received {
		t.Errorf("%d of %d packets between endpoints that no fault touched were lost", sent-received, sent)
	}
	s.assertWhole()
	t.Logf("%d attaches and detaches, the longest %v; %d of %d pings came back; faults:\n%s",
		s.cycles, s.longest.Round(time.Millisecond), received, sent, table(seen))
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: members + 1, Store: agenttest.Consul})
	hosts := l.Hosts[:members]
	for _, h := range hosts {
		h.Start()
	}
	hosts[0].Init()
	for _, h := range hosts[1:] {
		h.Join(hosts[0])
	}
	blue := hosts[0].CreateNetwork("blue", "--subnet", subnet)
	s := &soak{t: t, l: l, hosts: hosts, spare: l.Host(members + 1), vni: blue.VNI,
		canary: map[string]canary{}, ledger: ledger{holders: map[netip.Addr]string{}}}
	for _, h := range hosts {
		sandbox, a := h.Endpoint("blue", "canary-"+h.Name)
		s.canary[h.Name] = canary{sandbox, a}
		s.note(s.ledger.take(a.Addr(), a.Name))
	}
	return s
}

// pingUntouched starts ten pings of 200 packets a second.
func (s *soak) pingUntouched() (all []*agenttest.Count) {
	four, five := s.l.Host(touched+1), s.l.Host(touched+2)
	for i := range 5 {
		a, at := four.Endpoint("blue", fmt.Sprintf("four%d", i))
		b, bt := five.Endpoint("blue", fmt.Sprintf("five%d", i))
		s.note(s.ledger.take(at.Addr(), at.Name))
		s.note(s.ledger.take(bt.Addr(), bt.Name))
		agenttest.Eventually(s.t, 10*time.Second, "they reach each other", func() error { return a.PingOnce(bt.Addr()) })
		all = append(all, a.CountPings(bt.Addr(), 5*time.Millisecond), b.CountPings(at.Addr(), 5*time.Millisecond))
	}
	return all
}

// attachAndDetach is the load of a host: an endpoint that comes and goes. Whatever
// happens, it comes within 60 s.
func (s *soak) attachAndDetach(h *agenttest.Host, stop <-chan struct{}) {
	sandbox := h.Sandbox("load")
	name := "load-" + h.Name
	for {
		select {
		case <-stop:
			return
		default:
		}
		start := time.Now()
		a := s.attach(sandbox, name)
		took := time.Since(start)
		s.note(s.ledger.take(a.Addr(), name))
		s.ledger.release(a.Addr()) // from the moment on that somebody asks for it
		s.await(time.Minute, h.Name+": detach", func() error {
			if r := h.Ctl("detach", "blue", name); r.Code != 0 && !strings.Contains(r.Stderr, "no endpoint") {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		s.mu.Lock()
		s.cycles++
		s.longest = max(s.longest, took)
		s.mu.Unlock()
	}
}

// attach puts a sandbox on the network.
func (s *soak) attach(sandbox *agenttest.Sandbox, name string) (a agenttest.Attachment) {
	s.await(time.Minute, sandbox.Host.Name+": attach "+name, func() error {
		var r agenttest.Result
		if a, r = sandbox.TryAttach("blue", name); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	return a
}

// outcome is what came of the faults of one kind.
type outcome struct {
	times   int
	longest time.Duration
}

// inject lets one fault after the other happen, and waits each time until all is as
// before.
func (s *soak) inject(random *rand.Rand) map[string]outcome {
	seen := map[string]outcome{}
	var next []fault
	for end := time.Now().Add(*duration); time.Now().Before(end); {
		if len(next) == 0 {
			next = shuffled(s.t, random)
		}
		f := next[0]
		next = next[1:]
		hosts := touched
		if f.agent {
			hosts = members
		}
		h := s.hosts[random.IntN(hosts)]
		start := time.Now()
		s.t.Logf("%s %s: %s", start.Format(time.TimeOnly), h.Name, f.name)
		f.do(s, h)
		s.await(f.within, h.Name+": as before "+f.name, func() error { return s.healthy(h) })
		o := seen[f.name]
		seen[f.name] = outcome{o.times + 1, max(o.longest, time.Since(start))}
	}
	return seen
}

// shuffled is every fault that was asked for, once, so that none is left out for long.
func shuffled(t *testing.T, random *rand.Rand) (all []fault) {
	for _, f := range faults {
		if asked, err := regexp.MatchString(*only, f.name); err != nil {
			t.Fatalf("-only: %v", err)
		} else if asked {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		t.Fatalf("-only: no fault is called %s", *only)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// healthy reports whether the host's canary reaches those of the others, and the agent
// says that all is well.
func (s *soak) healthy(h *agenttest.Host) error {
	from := s.canary[h.Name]
	for _, to := range s.canary {
		if err := from.PingOnce(to.Addr()); err != nil {
			return err
		}
	}
	if r := h.Ctl("status"); !strings.HasPrefix(r.Stdout, h.Name+": ok") {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// assertWhole checks that every host lists the same endpoints, each with an address of
// its own, and that every other address can be given: none was lost.
func (s *soak) assertWhole() {
	s.t.Helper()
	var rows map[string]agenttest.EndpointRow
	for _, h := range s.hosts {
		s.await(time.Minute, h.Name+": the endpoints of all", func() error {
			rows = h.Endpoints()
			if want := members + 10; len(rows) != want {
				return fmt.Errorf("%d endpoints, want %d: %v", len(rows), want, slices.Sorted(maps.Keys(rows)))
			}
			return nil
		})
	}
	// The first, the last and the gateway's are no endpoint's.
	const usable = 128 - 3
	h := s.hosts[0]
	for i := len(rows); i < usable; i++ {
		sandbox := h.Sandbox(fmt.Sprintf("more%d", i))
		a := s.attach(sandbox, fmt.Sprintf("more%d", i))
		s.note(s.ledger.take(a.Addr(), a.Name))
	}
}

// await is Eventually for any goroutine: a bound that is broken is noted, and the rest
// goes on.
func (s *soak) await(within time.Duration, what string, check func() error) {
	if _, err := agenttest.Await(within, check); err != nil {
		s.t.Errorf("%s: not within %v: %v", what, within, err)
	}
}

func (s *soak) check(err error) { s.note(err) }

func (s *soak) note(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func table(seen map[string]outcome) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%4d times, as before within %8v  %s\n", seen[name].times, seen[name].longest.Round(time.Millisecond), name)
	}
	return b.String()
}

// ledger has the holder of every address.
type ledger struct {
	mu      sync.Mutex // guards holders
	holders map[netip.Addr]string
}

func (l *ledger) take(a netip.Addr, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if holder := l.holders[a]; holder != "" {
		return fmt.Errorf("%v was given to %s while %s has it", a, name, holder)
	}
	l.holders[a] = name
	return nil
}

func (l *ledger) release(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.holders, a)
}
