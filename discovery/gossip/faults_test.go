package gossip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// wires cuts the links between groups of nodes.
type wires struct {
	mu   sync.RWMutex
	side map[netip.Addr]int
}

func (w *wires) tune(g *Gossip, c *memberlist.Config) {
	self := g.trans.addr.Addr()
	g.trans.cut = func(_ string, peer netip.Addr) bool {
		w.mu.RLock()
		defer w.mu.RUnlock()
		return w.side[self] != w.side[peer]
	}
	c.GossipToTheDeadTime = 5 * time.Second
}

func (w *wires) cut(far ...*node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.side = map[netip.Addr]int{}
	for _, n := range far {
		w.side[n.Addr().Addr()] = 1
	}
}

func hiddenAt(n *node, host discovery.HostID, want bool) error {
	for _, r := range n.View().Endpoints {
		if r.Host == host && (r.Hidden != want || (r.Status == discovery.EndpointSuspended) != want) {
			return fmt.Errorf("%s shows %s as %v, hidden %v", n.cfg.Name, r.Name, r.Status, r.Hidden)
		}
	}
	return nil
}

func TestCutHostIsHiddenWithin15sAndBackWithin2s(t *testing.T) {
	t.Parallel()
	w := &wires{}
	nodes := cluster(t, 5, withTune(w.tune))
	for i, n := range nodes {
		n.Announce([]discovery.Endpoint{endpoint(i, 1)}, nil)
	}
	eventually(t, 3*time.Second, "endpoints", func() error { return converged(nodes) })
	w.cut(nodes[4])
	took := eventually(t, 15*time.Second, "hidden on the others", func() error {
		for _, n := range nodes[:4] {
			if err := hiddenAt(n, testID(4), true); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("hidden everywhere after %v", took)
	eventually(t, 30*time.Second, "the others hidden on the cut host", func() error { return hiddenAt(nodes[4], testID(0), true) })
	// Past GossipToTheDeadTime memberlist has forgotten the other side.
	time.Sleep(8 * time.Second)
	nodes[4].Announce(nil, []discovery.EndpointID{endpoint(4, 1).ID})
	nodes[4].Announce([]discovery.Endpoint{endpoint(4, 2)}, nil)
	w.cut()
	took = eventually(t, 15*time.Second, "healed", func() error {
		for _, n := range nodes {
			for i := range nodes {
				if err := hiddenAt(n, testID(i), false); err != nil {
					return err
				}
			}
		}
		return converged(nodes)
	})
	t.Logf("healed after %v", took)
	if took > 4*time.Second {
		t.Errorf("healed after %v, want about 2s", took)
	}
	if err := allHave(nodes, endpoint(4, 1).ID, false); err != nil {
		t.Errorf("an endpoint that was withdrawn during the cut is back: %v", err)
	}
}

func TestHalvesOfAPartitionFindEachOther(t *testing.T) {
	t.Parallel()
	w := &wires{}
	nodes := cluster(t, 6, withTune(w.tune))
	w.cut(nodes[3:]...)
	took := eventually(t, 25*time.Second, "both halves alone", func() error {
		for _, n := range nodes {
			if got := n.count(discovery.StatusDead); got != 3 {
				return fmt.Errorf("%s sees %d dead", n.cfg.Name, got)
			}
		}
		return nil
	})
	t.Logf("detected after %v", took)
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 1)}, nil)
	nodes[5].Announce([]discovery.Endpoint{endpoint(5, 1)}, nil)
	w.cut()
	took = eventually(t, 15*time.Second, "one cluster", func() error {
		for _, n := range nodes {
			if got := n.count(discovery.StatusAlive); got != len(nodes) {
				return fmt.Errorf("%s sees %d alive", n.cfg.Name, got)
			}
		}
		return converged(nodes)
	})
	t.Logf("healed after %v", took)
}

func TestTableConvergesWhenDeltasAreDropped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		loss float64
		want time.Duration
	}{{"every delta", 1, 4 * time.Second}, {"one message in five", 0.2, 8 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			var on atomic.Bool
			nodes := cluster(t, 10, withTune(func(g *Gossip, _ *memberlist.Config) {
				g.sender.drop = func(_ discovery.HostID, k table.Kind) bool {
					delta := k == table.KindDelta || k == table.KindAnnounce
					return on.Load() && (c.loss == 1 && delta || c.loss < 1 && rand.Float64() < c.loss)
				}
			}))
			on.Store(true)
			var worst time.Duration
			for i := range 3 {
				e := endpoint(i, 7)
				nodes[i].Announce([]discovery.Endpoint{e}, nil)
				worst = max(worst, eventually(t, 20*time.Second, "repair", func() error { return allHave(nodes, e.ID, true) }))
			}
			t.Logf("worst of 3: %v", worst)
			if worst > c.want {
				t.Errorf("repaired after %v, want at most %v", worst, c.want)
			}
		})
	}
}

func TestRestartWithinTheDetectionTimeIsNotSeen(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3)
	e := endpoint(2, 1)
	nodes[2].cfg.Endpoints = []discovery.Endpoint{e}
	nodes[2].Announce(nodes[2].cfg.Endpoints, nil)
	eventually(t, 3*time.Second, "announced", func() error { return allHave(nodes, e.ID, true) })
	var hidden atomic.Bool
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if r, ok := nodes[0].record(e.ID); !ok || r.Hidden {
					hidden.Store(true)
				}
			}
		}
	})
	nodes[2].halt()
	eventually(t, time.Second, "back soon", func() error {
		if m, _ := nodes[0].member(testID(2)); m.Header.Flags&discovery.FlagBackSoon == 0 {
			return errors.New("no flag")
		}
		return nil
	})
	nodes[2].restart()
	eventually(t, 5*time.Second, "back", func() error {
		if m, _ := nodes[0].member(testID(2)); m.Header.Nonce != nodes[2].cfg.Nonce || m.Status != discovery.StatusAlive {
			return fmt.Errorf("nonce %d, status %v", m.Header.Nonce, m.Status)
		}
		if !nodes[2].View().Complete {
			return errors.New("not complete")
		}
		return converged(nodes)
	})
	close(stop)
	watch.Wait()
	if hidden.Load() {
		t.Error("the names of a restarting host were hidden for a moment")
	}
}

func TestDeadAgentOnALivingKernelKeepsItsNames(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3)
	nodes[2].Announce([]discovery.Endpoint{endpoint(2, 1)}, nil)
	eventually(t, 3*time.Second, "announced", func() error { return converged(nodes) })
	// A crash: no goodbye. The loopback answers for the closed port with RST.
	nodes[2].left.Store(true)
	nodes[2].halt()
	took := eventually(t, 15*time.Second, "agent-down", func() error {
		if m, _ := nodes[0].member(testID(2)); m.Status != discovery.StatusAgentDown {
			return fmt.Errorf("status %v", m.Status)
		}
		return nil
	})
	t.Logf("detected after %v", took)
	r, ok := nodes[0].record(endpoint(2, 1).ID)
	if !ok || r.Hidden || r.Status != discovery.EndpointLive {
		t.Errorf("record %v, hidden %v, status %v; want live and not hidden", ok, r.Hidden, r.Status)
	}
}

func TestAllHostsStartedAtOnceMeetThroughWhatTheySaved(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4)
	for i, n := range nodes {
		n.cfg.Endpoints = []discovery.Endpoint{endpoint(i, 1)}
		n.Announce(n.cfg.Endpoints, nil)
	}
	eventually(t, 3*time.Second, "announced", func() error { return converged(nodes) })
	for _, n := range nodes {
		n.left.Store(true) // a power cut says no goodbye
		n.halt()
	}
	for _, n := range nodes {
		n.restart()
		if got := len(n.View().Endpoints); got != 4 {
			t.Fatalf("%s shows %d endpoints right after its start, want 4 from the disk", n.cfg.Name, got)
		}
	}
	took := eventually(t, 15*time.Second, "one cluster", func() error {
		for _, n := range nodes {
			if v := n.View(); !v.Complete || n.count(discovery.StatusAlive) != 4 {
				return fmt.Errorf("%s: complete %v, %d alive", n.cfg.Name, v.Complete, n.count(discovery.StatusAlive))
			}
		}
		return converged(nodes)
	})
	t.Logf("met after %v", took)
}

func TestRestartAtAnotherAddressIsAccepted(t *testing.T) {
	t.Parallel()
	var clones atomic.Int32
	nodes := cluster(t, 3, with(func(c *Config) { c.Conflict = func(netip.AddrPort) { clones.Add(1) } }))
	nodes[2].halt()
	nodes[2].cfg.Bind = loopback()
	nodes[2].restart()
	took := eventually(t, 30*time.Second, "accepted", func() error {
		m, _ := nodes[0].member(testID(2))
		if m.Gossip != nodes[2].Addr() || m.Status != discovery.StatusAlive {
			return fmt.Errorf("%v at %v", m.Status, m.Gossip)
		}
		return converged(nodes)
	})
	t.Logf("accepted after %v", took)
	if took > 12*time.Second {
		t.Errorf("accepted after %v, want about 8s", took)
	}
	if n := clones.Load(); n != 0 {
		t.Errorf("the host was taken for its own clone %d times", n)
	}
}

// Of two instances under one id the one that the members hold goes on, whatever
// numbers the two drew and however young its state is.
func TestClonedHostIsToldAndTheFirstIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		nonce uint64 // of the clone, beyond the first one's
		inc   uint64 // and its incarnation
	}{
		"a higher number":            {1, 1},
		"a lower number":             {math.MaxUint64, 1},
		"a lower one, a later start": {math.MaxUint64, 2},
		"a much later start":         {1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second atomic.Int32
			nodes := []*node{newNode(t, 0), newNode(t, 1, with(func(c *Config) { c.Conflict = func(netip.AddrPort) { first.Add(1) } }))}
			nodes[1].join(nodes[0])
			var other atomic.Value
			clone := newNode(t, 1, with(func(n *Config) {
				n.Nonce += c.nonce
				n.Incarnation = c.inc
				n.Conflict = func(at netip.AddrPort) { second.Add(1); other.Store(at) }
			}))
			if !clone.Running(nodes[1].Addr()) || clone.Running(nodes[0].Addr()) || clone.Running(clone.Addr()) {
				t.Error("the clone does not see who runs under its id before it joins")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			if _, err := clone.Join(ctx, []netip.AddrPort{nodes[0].Addr()}, nil); err == nil {
				t.Error("a cloned host joined")
			}
			eventually(t, 10*time.Second, "the clone to be told", func() error {
				if second.Load() == 0 {
					return errors.New("no call of Conflict")
				}
				return nil
			})
			if got := other.Load(); got != nodes[1].Addr() {
				t.Errorf("told of %v, want %v", got, nodes[1].Addr())
			}
			if first.Load() != 0 {
				t.Error("the first instance was told to stop")
			}
			if m, _ := nodes[0].member(testID(1)); m.Gossip != nodes[1].Addr() {
				t.Errorf("member at %v, want %v", m.Gossip, nodes[1].Addr())
			}
		})
	}
}

func TestJoinNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	member := newNode(t, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	join := func(n *node, at netip.AddrPort) error {
		_, err := n.Join(ctx, []netip.AddrPort{at}, nil)
		t.Logf("%v", err)
		return err
	}
	if err := join(newNode(t, 1, withKeys(3)), member.Addr()); !errors.Is(err, ErrWrongKey) {
		t.Errorf("wrong key: %v", err)
	}
	if err := join(newNode(t, 2, withCluster(8)), member.Addr()); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("other cluster: %v", err)
	}
	if err := join(newNode(t, 3), loopback()); !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: %v", err)
	}
	blocked := func(network string) option {
		return withTune(func(g *Gossip, _ *memberlist.Config) {
			g.trans.cut = func(n string, peer netip.Addr) bool { return n == network && peer != g.trans.addr.Addr() }
		})
	}
	for i, proto := range []string{"tcp", "udp"} {
		n := newNode(t, 4+i, blocked(proto))
		err := join(n, member.Addr())
		want := member.Addr()
		if proto == "udp" { // the own end: nothing comes through it
			want = n.Addr()
		}
		var u *UnreachableError
		if !errors.As(err, &u) || u.Protocol != proto || u.Addr != want {
			t.Errorf("%s blocked: %v, want that %v is not reached", proto, err, want)
		}
	}
	if got := member.count(discovery.StatusAlive); got < 1 {
		t.Errorf("the member itself is disturbed: %d alive", got)
	}
}

// Members agree on formats, not on releases: a build from a repository without a
// tag, or from none, is no reason to be refused, and each says what it is.
func TestMembersOfAnyReleaseJoin(t *testing.T) {
	t.Parallel()
	releases := []string{"v0.1.0", "0.2.0", "v0.1.0-12-gabc1234-dirty", "819cf3b", "v0.0.0-20261130210940-819cf3b0d03c+dirty", "devel", ""}
	var nodes []*node
	for i, r := range releases {
		nodes = append(nodes, newNode(t, i, with(func(c *Config) { c.Version = r })))
		if i > 0 {
			nodes[i].join(nodes[0])
		}
	}
	eventually(t, 10*time.Second, "every member knows the release of each", func() error {
		for _, n := range nodes {
			for i, want := range releases {
				if m, ok := n.member(testID(i)); !ok || m.Status != discovery.StatusAlive || m.Version != want {
					return fmt.Errorf("at %s: member %d is %+v, want release %q", n.cfg.Name, i, m, want)
				}
			}
		}
		return nil
	})
}

func TestPortInUseIsSaid(t *testing.T) {
	t.Parallel()
	n := newNode(t, 0)
	cfg := n.cfg
	cfg.Bind = n.Addr()
	if _, err := New(cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want EADDRINUSE", err)
	}
}

func TestLeaveTakesEverythingAlong(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3)
	nodes[2].Announce([]discovery.Endpoint{endpoint(2, 1)}, nil)
	eventually(t, 3*time.Second, "announced", func() error { return converged(nodes) })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := nodes[2].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "left", func() error {
		for _, n := range nodes[:2] {
			if _, ok := n.record(endpoint(2, 1).ID); ok {
				return errors.New("endpoint still there")
			}
			if m, _ := n.member(testID(2)); m.Status != discovery.StatusLeft {
				return fmt.Errorf("status %v", m.Status)
			}
		}
		return nil
	})
	nodes[2].halt()
	if m, _ := nodes[0].member(testID(2)); m.Status != discovery.StatusLeft {
		t.Errorf("status %v after the agent ended, want left", m.Status)
	}
}

func TestForgottenHostIsToldAndRefused(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	nodes := cluster(t, 3, with(func(c *Config) {
		c.Forgotten = func(by string) {
			select {
			case told <- by:
			default: // said again
			}
		}
	}))
	nodes[2].Announce([]discovery.Endpoint{endpoint(2, 1)}, nil)
	eventually(t, 3*time.Second, "announced", func() error { return converged(nodes) })
	nodes[2].left.Store(true)
	nodes[2].halt()
	for _, n := range nodes[:2] {
		n.Forget([]discovery.HostID{testID(2)})
	}
	for life := range 2 {
		nodes[2].restart()
		select {
		case by := <-told:
			if by != "h0" && by != "h1" {
				t.Errorf("life %d: told by %q", life, by)
			}
		case <-time.After(15 * time.Second):
			t.Fatalf("life %d: the host was not told", life)
		}
		for _, n := range nodes[:2] {
			if m, ok := n.member(testID(2)); ok {
				t.Errorf("life %d: %s lists the forgotten host as %v", life, n.cfg.Name, m.Status)
			}
			if m, _ := n.member(n.cfg.Self); m.Header.GoneHash != table.HashID(testID(2)) {
				t.Errorf("gone hash %x", m.Header.GoneHash)
			}
		}
		nodes[2].halt()
	}
}

func TestCallIsAnswered(t *testing.T) {
	t.Parallel()
	serve := with(func(c *Config) {
		c.Serve = func(from discovery.HostID, body []byte) []byte {
			return fmt.Appendf(nil, "%s from %s", body, from)
		}
	})
	nodes := cluster(t, 2, serve)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	got, err := nodes[0].Call(ctx, testID(1), []byte("lend"))
	if want := "lend from " + testID(0).String(); err != nil || string(got) != want {
		t.Errorf("answer %q, %v; want %q", got, err, want)
	}
	if _, err := nodes[0].Call(ctx, testID(9), nil); !errors.Is(err, ErrNoMember) {
		t.Errorf("unknown host: %v", err)
	}
}

// A request to another member waits for no retransmission of TCP, and is carried out
// once however often it is sent.
func TestCallsPassWhereDatagramsAndConnectionsAreLost(t *testing.T) {
	t.Parallel()
	var lossy atomic.Bool
	var served sync.Map
	nodes := cluster(t, 2, func(n *node) {
		n.cfg.Serve = func(_ discovery.HostID, body []byte) []byte {
			if _, again := served.LoadOrStore(string(body), true); again {
				t.Errorf("request %s is carried out twice", body)
			}
			return body
		}
		n.tune = func(g *Gossip, _ *memberlist.Config) {
			g.trans.cut = func(network string, peer netip.Addr) bool {
				return lossy.Load() && (network == "tcp" || rand.IntN(100) < 20) && peer != g.trans.addr.Addr()
			}
		}
	})
	lossy.Store(true)
	const calls = 100
	var took []time.Duration
	for i := range calls {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		began := time.Now()
		if got, err := nodes[0].Call(ctx, testID(1), fmt.Appendf(nil, "%d", i)); err != nil || string(got) != fmt.Sprint(i) {
			t.Logf("call %d: %q, %v", i, got, err)
			took = append(took, 5*time.Second)
		} else {
			took = append(took, time.Since(began))
		}
		cancel()
	}
	slices.Sort(took)
	t.Logf("median %v, 90 of 100 within %v, 98 of 100 within %v", took[calls/2], took[calls*9/10], took[calls*98/100])
	if took[calls*9/10] > time.Second {
		t.Errorf("one of ten calls takes longer than %v where a third of the datagrams is lost", took[calls*9/10])
	}
}

func TestOwnEndpointsArePendingUntilAnotherMemberHoldsThem(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	lone := newNode(t, 9)
	lone.Announce([]discovery.Endpoint{endpoint(9, 1)}, nil)
	if r, _ := lone.record(endpoint(9, 1).ID); r.Status != discovery.EndpointLive || !lone.View().Complete {
		t.Errorf("lone host: %v, complete %v; want live, complete", r.Status, lone.View().Complete)
	}
	nodes := cluster(t, 2, withTune(func(g *Gossip, _ *memberlist.Config) {
		g.sender.drop = func(discovery.HostID, table.Kind) bool { return on.Load() }
	}))
	on.Store(true)
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 1)}, nil)
	if r, _ := nodes[0].record(endpoint(0, 1).ID); r.Status != discovery.EndpointPending {
		t.Errorf("status %v before anyone can have it, want pending", r.Status)
	}
	on.Store(false)
	eventually(t, 5*time.Second, "live", func() error {
		if r, _ := nodes[0].record(endpoint(0, 1).ID); r.Status != discovery.EndpointLive {
			return fmt.Errorf("status %v", r.Status)
		}
		return nil
	})
}

func TestRandomBytesDoNotDisturb(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3)
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(nodes[0].Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for range 200 {
		b := make([]byte, 1+rand.IntN(1200))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
		tcp, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(nodes[0].Addr()))
		if err != nil {
			t.Fatal(err)
		}
		tcp.Write(b)
		tcp.Close()
	}
	e := endpoint(0, 3)
	nodes[0].Announce([]discovery.Endpoint{e}, nil)
	eventually(t, 2*time.Second, "announce under noise", func() error { return allHave(nodes, e.ID, true) })
	eventually(t, 5*time.Second, "the noise to be counted", func() error {
		if got := nodes[0].Stats().Junk; got < 200 {
			return fmt.Errorf("%d bad packets and streams counted, want at least 200", got)
		}
		return nil
	})
	if got := nodes[0].count(discovery.StatusAlive); got != 3 {
		t.Errorf("%d members alive, want 3", got)
	}
}

func TestSeedsLeadToTheClusterWhenNobodyIsRemembered(t *testing.T) {
	t.Parallel()
	member := newNode(t, 0)
	lost := newNode(t, 1, with(func(c *Config) {
		c.Seeds = func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{member.Addr()}, nil }
	}))
	eventually(t, 5*time.Second, "found", func() error {
		if got := lost.count(discovery.StatusAlive); got != 2 {
			return fmt.Errorf("%d alive", got)
		}
		return converged([]*node{member, lost})
	})
}

func TestTableIsSavedWithin1s(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2)
	nodes[1].Announce([]discovery.Endpoint{endpoint(1, 1)}, nil)
	took := eventually(t, time.Second, "saved", func() error {
		nodes[0].mu.Lock()
		defer nodes[0].mu.Unlock()
		tb, err := table.New(table.Config{Self: testID(0), Saved: nodes[0].saved, Now: time.Now()})
		if err != nil {
			return err
		}
		if v := tb.View(); len(v.Endpoints) != 1 || len(v.Members) != 2 {
			return fmt.Errorf("%d endpoints, %d members saved", len(v.Endpoints), len(v.Members))
		}
		return nil
	})
	t.Logf("saved after %v", took)
}

func TestKeysAreExchangedWhileRunning(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2)
	older, newer := []byte{0: 9, 15: 1}, []byte{0: 77, 31: 1}
	for _, keys := range [][][]byte{{older, newer}, {newer, older}, {newer}} {
		for _, n := range nodes {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
		e := endpoint(0, int(keys[0][0]))
		nodes[0].Announce([]discovery.Endpoint{e}, nil)
		eventually(t, 3*time.Second, "announce", func() error { return allHave(nodes, e.ID, true) })
	}
	late := newNode(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := late.Join(ctx, []netip.AddrPort{nodes[0].Addr()}, nil); !errors.Is(err, ErrWrongKey) {
		t.Errorf("join with the old key: %v, want ErrWrongKey", err)
	}
}
