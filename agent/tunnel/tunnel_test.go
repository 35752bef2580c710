package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/tunnel/tunneltest"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// cluster is hosts whose tunnels are joined by a wire.
type cluster struct {
	t     *testing.T
	wire  *tunneltest.Wire
	hosts []*Tunnel
	view  discovery.View
	mute  map[discovery.HostID]bool // they answer nothing over gossip

	mu     sync.Mutex // guards events
	events map[int][]string
}

var blue = discovery.NetworkID{7}

func hostID(n int) discovery.HostID   { return discovery.HostID{byte(n >> 8), byte(n), 1} }
func hostMAC(n int) overlay.MAC       { return plan.ProbeMAC(hostID(n)) }
func (c *cluster) host(n int) *Tunnel { return c.hosts[n-1] }

// newCluster makes hosts that share a network. Their devices carry 1500 bytes.
func newCluster(t *testing.T, hosts int) *cluster {
	c := &cluster{t: t, wire: tunneltest.NewWire(), mute: map[discovery.HostID]bool{}, events: map[int][]string{}}
	for n := 1; n <= hosts; n++ {
		id := hostID(n)
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
		c.view.Members = append(c.view.Members, discovery.Member{ID: id, Name: fmt.Sprintf("h%d", n), Status: discovery.StatusAlive,
			Header: discovery.Header{VTEP: addr, MTU: 1500, Networks: []discovery.HeaderNetwork{{VNI: 4096, ID: blue}}}})
		c.wire.Add(hostMAC(n))
		c.hosts = append(c.hosts, New(Config{
			Self: id, Name: fmt.Sprintf("h%d", n), VTEP: addr, Port: 4799, Log: slog.New(slog.DiscardHandler), Changed: func() {},
			Open: func() (Socket, error) { return c.wire.Open(hostMAC(n)), nil },
			Tap:  func() (Tap, error) { return c.wire.Tap(hostMAC(n)), nil },
			View: func() discovery.View { return c.seenBy(id) },
			Call: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
				return c.call(ctx, id, to, body)
			},
			Events: func(e event.Event) { c.note(n, e) },
		}))
		c.host(n).Use(1500, "eth0")
	}
	return c
}

func (c *cluster) note(n int, e event.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events[n] = append(c.events[n], fmt.Sprint(e.Kind, " ", e.Subject, " ", e.Detail["proof"]))
}

// assertEvents checks what a host told of.
func (c *cluster) assertEvents(of int, want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.events[of], want) {
		c.t.Errorf("events of h%d: %q, want %q", of, c.events[of], want)
	}
}

func (c *cluster) seenBy(id discovery.HostID) discovery.View {
	v := c.view
	v.Self = id
	return v
}

func (c *cluster) call(ctx context.Context, from, to discovery.HostID, body []byte) ([]byte, error) {
	if c.mute[to] {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for n := range c.hosts {
		if hostID(n+1) == to {
			answer, _ := c.hosts[n].Serve(from, body)
			return answer, nil
		}
	}
	return nil, fmt.Errorf("no host %s", to)
}

// run begins all hosts; what returned ends them.
func (c *cluster) run() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	for _, h := range c.hosts {
		go func() { _ = h.Run(ctx) }()
	}
	return func() { cancel(); synctest.Wait() }
}

// proof is what one host knows of the tunnel to another.
func (c *cluster) proof(of, to int) Proof {
	c.t.Helper()
	for _, p := range c.host(of).Proofs() {
		if p.Peer == hostID(to) {
			return p
		}
	}
	c.t.Fatalf("h%d has no proof of h%d", of, to)
	return Proof{}
}

// lose has frames lost that go from one host to another.
func (c *cluster) lose(from, to int, at tunneltest.Place, larger int) {
	c.wire.Lose(func(f, t overlay.MAC, p tunneltest.Place, payload []byte) bool {
		return f == hostMAC(from) && t == hostMAC(to) && p == at && len(payload)+50 > larger
	})
}

func TestBlockedPortIsNamedByBothSides(t *testing.T) {
	for _, tt := range []struct {
		at   tunneltest.Place
		says string // of what goes from h1 to h2
		hint string
	}{
		{tunneltest.Leaving, "4799/udp is blocked from h1 to h2: h1 does not let it out", "nft list ruleset # on h1: 4799/udp to 192.0.2.2 must go out"},
		{tunneltest.Between, "4799/udp is blocked from h1 to h2: it leaves h1 and does not come to h2", "tcpdump -ni any udp port 4799 and host 192.0.2.1 # on h2"},
		{tunneltest.Arriving, "4799/udp is blocked from h1 to h2: h2 does not let it in", "nft list ruleset # on h2: 4799/udp from 192.0.2.1 must come in"},
	} {
		t.Run(tt.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				defer c.run()()
				time.Sleep(12 * time.Second)
				for _, pair := range [][2]int{{1, 2}, {2, 1}, {2, 3}} {
					if p := c.proof(pair[0], pair[1]); p.Out != OK || p.In != OK || p.Size != OK || p.Why != "" || p.MTU != 1500 || p.State() != OK {
						t.Fatalf("h%d of h%d: %+v", pair[0], pair[1], p)
					}
				}
				c.lose(1, 2, tt.at, 0)
				time.Sleep(15 * time.Second)
				one, two := c.proof(1, 2), c.proof(2, 1)
				if one.Out != Failing || one.State() != Failing || two.In != Failing || two.Out != OK || two.State() != Failing || one.Loss != 100 {
					t.Errorf("after 15 s: h1 %+v\nh2 %+v", one, two)
				}
				for _, p := range []Proof{one, two} {
					if p.Why != tt.says || !strings.HasPrefix(p.Hint, tt.hint) {
						t.Errorf("says %q, hint %q", p.Why, p.Hint)
					}
				}
				if p := c.proof(1, 3); p.State() != OK {
					t.Errorf("h3: %+v", p)
				}
				c.wire.Lose(nil)
				time.Sleep(10 * time.Second)
				if one, two := c.proof(1, 2), c.proof(2, 1); one.State() != OK || two.State() != OK || one.Why+two.Why != "" || one.Loss > 0 {
					t.Errorf("after its removal: h1 %+v\nh2 %+v", one, two)
				}
				c.assertEvents(1, "tunnel-failing h2 ways", "tunnel-ok h2 ways")
				c.assertEvents(2, "tunnel-failing h1 ways", "tunnel-ok h1 ways")
				c.assertEvents(3)
			})
		})
	}
}

// A member that does not answer over gossip either may be gone: nothing is said of the
// tunnel, and what was known gets old.
func TestSilentMemberMakesNoFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.run()()
		time.Sleep(time.Second)
		c.lose(1, 2, tunneltest.Between, 0)
		c.mute[hostID(2)] = true
		time.Sleep(20 * time.Second)
		if p := c.proof(1, 2); p.State() != OK {
			t.Errorf("after 20 s: %+v", p)
		}
		time.Sleep(20 * time.Second)
		if p := c.proof(1, 2); p.State() != Stale {
			t.Errorf("after 40 s: %+v", p)
		}
	})
}

// A network that loses packets, and hosts that are slow to answer, are no failure.
func TestLossAndDelayAreNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.run()()
		r := rand.New(rand.NewPCG(1, 2))
		c.wire.Lose(func(_, _ overlay.MAC, at tunneltest.Place, _ []byte) bool {
			return at == tunneltest.Between && r.Float64() < 0.05
		})
		var loss, proofs float64
		for range 6 * 60 { // an hour
			time.Sleep(10 * time.Second)
			for _, h := range c.hosts {
				for _, p := range h.Proofs() {
					if p.State() == Failing || p.MTU < 1500 && p.MTU != 0 {
						t.Fatalf("%+v", p)
					}
					loss += p.Loss
					proofs++
				}
			}
		}
		// Of each request and reply one in twenty is lost.
		if mean := loss / proofs; mean < 6 || mean > 14 {
			t.Errorf("a loss of %.1f %% was measured, 9.75 %% is so", mean)
		}
	})
}

func TestMTUFollowsWhatPasses(t *testing.T) {
	for _, hole := range []int{1499, 1400, 1281, 1280} {
		t.Run(fmt.Sprint(hole), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				defer c.run()()
				time.Sleep(12 * time.Second)
				c.lose(1, 2, tunneltest.Between, hole)
				time.Sleep(18 * time.Second)
				p := c.proof(1, 2)
				if p.MTU != hole || c.host(1).Path() != hole || p.State() != OK || p.Size != OK {
					t.Errorf("%d bytes pass: %+v, path %d", hole, p, c.host(1).Path())
				}
				if want := fmt.Sprintf("packets of 1500 bytes do not pass from h1 to h2, of %d they do: the networks' MTU is %d", hole, hole-50); !strings.HasPrefix(p.Why, want) {
					t.Errorf("says %q, want %q", p.Why, want)
				}
				if p := c.proof(2, 1); p.MTU != 1500 || c.host(2).Path() != 0 {
					t.Errorf("the other way nothing is lost: %+v", p)
				}
				c.wire.Lose(nil)
				time.Sleep(30 * time.Second)
				if c.host(1).Path() != hole {
					t.Error("the MTU came back at once: it must have passed for a while")
				}
				time.Sleep(time.Minute)
				if p := c.proof(1, 2); p.MTU != 1500 || c.host(1).Path() != 0 || p.Why != "" {
					t.Errorf("mended: %+v, path %d", p, c.host(1).Path())
				}
				c.assertEvents(1, "mtu-lowered h2 <nil>", "tunnel-ok h2 size")
				c.assertEvents(2)
			})
		})
	}
}

func TestPathThatIsTooSmallFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.run()()
		c.lose(1, 2, tunneltest.Between, 1200)
		time.Sleep(20 * time.Second)
		if p := c.proof(1, 2); p.Size != Failing || p.State() != Failing || c.host(1).Path() != LeastMTU || !strings.Contains(p.Why, "nor of 1280") {
			t.Errorf("%+v, path %d", p, c.host(1).Path())
		}
		c.assertEvents(1, "tunnel-failing h2 size")
	})
}

// What a host of fifty sends when nothing happens.
func TestCostOfFiftyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 50)
		defer c.run()()
		time.Sleep(5 * time.Minute) // the first proofs are made at once
		frames, bytes := c.wire.Sent(hostMAC(1))
		const over = 10 * time.Minute
		time.Sleep(over)
		f, b := c.wire.Sent(hostMAC(1))
		// Each frame is encapsulated, and has Ethernet's header below.
		perSecond := float64(b-bytes+(f-frames)*(50+14)) / over.Seconds()
		t.Logf("%.0f bytes and %.1f frames a second", perSecond, float64(f-frames)/over.Seconds())
		if perSecond > 2000 {
			t.Errorf("%.0f bytes a second, 2000 at most", perSecond)
		}
		oldest := time.Duration(0)
		for _, p := range c.host(1).Proofs() {
			oldest = max(oldest, time.Since(p.At))
		}
		if oldest > nearPeriod {
			t.Errorf("the oldest proof is from %v ago", oldest)
		}
	})
}

// A large cluster costs a host no more.
func TestPeriodsGrowWithTheCluster(t *testing.T) {
	for members, want := range map[int]time.Duration{1: nearPeriod, 49: nearPeriod, 98: 2 * nearPeriod, 490: 10 * nearPeriod} {
		if got := period(true, members); got != want {
			t.Errorf("%d members: every %v, want %v", members, got, want)
		}
	}
}

func TestMembersAreProvenWhenTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		c.view.Members[1].Status = discovery.StatusDead
		defer c.run()()
		time.Sleep(5 * time.Second)
		if p := c.proof(1, 2); p.State() != Unproven || p.Alive {
			t.Errorf("dead: %+v", p)
		}
		members := []discovery.Member{c.view.Members[0], c.view.Members[1]}
		members[1].Status = discovery.StatusAlive
		c.view.Members = members
		time.Sleep(2 * time.Second)
		if p := c.proof(1, 2); p.State() != OK {
			t.Errorf("alive again: %+v", p)
		}
		before := c.proof(1, 2).At
		time.Sleep(2 * time.Second)
		c.host(1).Use(1400, "eth0")
		time.Sleep(time.Second)
		if p := c.proof(1, 2); !p.At.After(before) || p.Full != 1400 {
			t.Errorf("after another device: %+v", p)
		}
		if err := c.host(1).Refresh(t.Context()); err != nil || time.Since(c.proof(1, 2).At) > time.Second {
			t.Errorf("refresh: %v", err)
		}
	})
}

// A newcomer that reaches nobody is told so, and one that reaches some is warned.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.lose(1, 2, tunneltest.Arriving, 0)
		defer c.run()()
		var said []string
		if err := c.host(1).Check(t.Context(), func(s string) { said = append(said, s) }); err != nil || !strings.Contains(strings.Join(said, "\n"), "warning: 4799/udp is blocked from h1 to h2: h2") {
			t.Errorf("one of two: %v, %q", err, said)
		}
		time.AfterFunc(5*time.Second, func() { c.wire.Lose(nil) })
		said = nil
		if err := c.host(1).Check(t.Context(), func(s string) { said = append(said, s) }); err != nil || len(said) != 1 {
			t.Errorf("a member that lets h1 in after a while: %v, %q", err, said)
		}
		c.wire.Lose(func(from, to overlay.MAC, _ tunneltest.Place, _ []byte) bool { return to == hostMAC(1) })
		err := c.host(1).Check(t.Context(), func(string) {})
		if err == nil || !strings.Contains(err.Error(), "from h2 to h1") || !strings.Contains(err.Error(), "from h3 to h1") {
			t.Errorf("none of two: %v", err)
		}
	})
}
