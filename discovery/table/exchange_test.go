package table_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/table"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func hostID(i int) discovery.HostID {
	sum := sha256.Sum256(fmt.Appendf(nil, "host %d", i))
	return discovery.HostID(sum[:16])
}

func endpointID(host, n int) (id discovery.EndpointID) {
	binary.BigEndian.PutUint32(id[:], uint32(host))
	binary.BigEndian.PutUint32(id[4:], uint32(n))
	return id
}

func endpoint(host, n int) discovery.Endpoint {
	return discovery.Endpoint{ID: endpointID(host, n), Network: discovery.NetworkID{1}, Seq: 1, Runtime: "docker",
		MAC: discovery.MAC{2, 0, 10, 42, byte(host), byte(n)}, Health: discovery.HealthHealthy,
		Name: fmt.Sprintf("web-%04d", n), IPv4: netip.AddrFrom4([4]byte{10, byte(host >> 8), byte(host), byte(n)})}
}

func endpoints(host, n int) (out []discovery.Endpoint) {
	for i := range n {
		out = append(out, endpoint(host, i))
	}
	return out
}

func header(i int) discovery.Header {
	return discovery.Header{Name: fmt.Sprintf("h%d", i), Nonce: uint64(i + 1), VTEP: netip.MustParseAddr("192.0.2.1")}
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func startHost(t fataler, c *discoverytest.Cluster, cfg discoverytest.Config) *discoverytest.Node {
	t.Helper()
	n, err := c.Start(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return n
}

func startHosts(t fataler, c *discoverytest.Cluster, n, eps int) []*discoverytest.Node {
	t.Helper()
	nodes := make([]*discoverytest.Node, n)
	for i := range nodes {
		nodes[i] = startHost(t, c, discoverytest.Config{Self: hostID(i), Incarnation: 1, Header: header(i), Endpoints: endpoints(i, eps)})
	}
	return nodes
}

func await(t fataler, c *discoverytest.Cluster, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	took, err := c.Await(limit, check)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return took
}

// TestReplicasEqualTheOwnersAfterAnyHistory: whatever hosts and links did,
// once they are quiet every host holds what every owner announces.
func TestReplicasEqualTheOwnersAfterAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(map[string]func(*rapid.T){
			"announce": h.announce,
			"withdraw": h.withdraw,
			"header":   h.header,
			"restart":  h.restart,
			"rollback": h.rollback,
			"cut":      h.cut,
			"weather":  h.weather,
			"wait":     h.wait,
		})
		h.quiesce()
	})
}

// history drives a cluster at random.
type history struct {
	c     *discoverytest.Cluster
	nodes []*discoverytest.Node
	inc   []uint64
	saved [][]byte
	truth []map[int]discovery.Endpoint
	t     *rapid.T
}

func newHistory(t *rapid.T) *history {
	n := rapid.IntRange(2, 6).Draw(t, "hosts")
	c := discoverytest.New(start, rapid.Uint64().Draw(t, "seed"))
	h := &history{c: c, nodes: startHosts(t, c, n, 3), inc: make([]uint64, n), saved: make([][]byte, n), t: t}
	for i := range n {
		h.inc[i] = 1
		m := map[int]discovery.Endpoint{}
		for j, e := range endpoints(i, 3) {
			m[j] = e
		}
		h.truth = append(h.truth, m)
	}
	return h
}

func (h *history) host(t *rapid.T) int { return rapid.IntRange(0, len(h.nodes)-1).Draw(t, "host") }

func (h *history) announce(t *rapid.T) {
	i := h.host(t)
	var up []discovery.Endpoint
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 30).Draw(t, "endpoints") {
		e := endpoint(i, n)
		e.Health = discovery.Health(rapid.IntRange(0, 3).Draw(t, "health"))
		h.truth[i][n] = e
	}
	for _, e := range h.truth[i] {
		up = append(up, e)
	}
	h.nodes[i].Announce(up, nil)
}

func (h *history) withdraw(t *rapid.T) {
	i, n := h.host(t), rapid.IntRange(0, 40).Draw(t, "endpoint")
	delete(h.truth[i], n)
	h.nodes[i].Announce(nil, []discovery.EndpointID{endpointID(i, n)})
}

func (h *history) header(t *rapid.T) {
	mtu := rapid.Uint16().Draw(t, "mtu")
	h.nodes[h.host(t)].SetHeader(func(hd *discovery.Header) { hd.MTU = mtu })
}

// restart ends a host, with or without a word, and starts it some time later
// from its disk, with other endpoints than before.
func (h *history) restart(t *rapid.T) {
	i := h.host(t)
	if rapid.Bool().Draw(t, "planned") {
		h.saved[i] = h.nodes[i].Stop()
	} else {
		h.saved[i] = h.nodes[i].Kill()
	}
	h.c.Step(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds away")) * time.Second)
	h.inc[i]++
	delete(h.truth[i], rapid.IntRange(0, 40).Draw(t, "lost endpoint"))
	h.start(i)
}

// rollback starts a host from a disk of long ago: its incarnation is one that
// the others have seen already.
func (h *history) rollback(t *rapid.T) {
	i := h.host(t)
	h.nodes[i].Kill()
	h.saved[i] = nil
	h.inc[i] = uint64(rapid.IntRange(1, int(h.inc[i])).Draw(t, "inc"))
	h.start(i)
}

func (h *history) start(i int) {
	var eps []discovery.Endpoint
	for _, e := range h.truth[i] {
		eps = append(eps, e)
	}
	h.nodes[i] = startHost(h.t, h.c, discoverytest.Config{Self: hostID(i), Incarnation: h.inc[i], Header: header(i), Endpoints: eps, Saved: h.saved[i]})
}

func (h *history) cut(t *rapid.T) {
	groups := make([][]discovery.HostID, 3)
	for i := range h.nodes {
		g := rapid.IntRange(0, 2).Draw(t, "side")
		groups[g] = append(groups[g], hostID(i))
	}
	h.c.Cut(groups...)
}

func (h *history) weather(t *rapid.T) {
	h.c.SetFaults(discoverytest.Faults{
		Loss:  rapid.Float64Range(0, 0.8).Draw(t, "loss"),
		Dup:   rapid.Float64Range(0, 0.5).Draw(t, "dup"),
		Delay: time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay ms")) * time.Millisecond,
	})
}

func (h *history) wait(t *rapid.T) {
	h.c.Step(time.Duration(rapid.IntRange(10, 15000).Draw(t, "ms")) * time.Millisecond)
}

func (h *history) quiesce() {
	h.c.Heal()
	h.c.SetFaults(discoverytest.Faults{})
	await(h.t, h.c, 40*time.Second, "quiet network", h.c.Converged)
	h.sameViews()
}

// sameViews checks that equal tables give equal views: every endpoint is live,
// or its owner pending where it is seen from.
func (h *history) sameViews() {
	await(h.t, h.c, 20*time.Second, "views", func() error {
		for i, n := range h.nodes {
			v := n.View()
			if !v.Complete {
				return fmt.Errorf("host %d is not complete", i)
			}
			for _, r := range v.Endpoints {
				if r.Status != discovery.EndpointLive || r.Hidden || r.Conflicted {
					return fmt.Errorf("host %d shows %s of %s as %v, hidden %v, conflicted %v", i, r.Name, r.Host, r.Status, r.Hidden, r.Conflicted)
				}
			}
		}
		return nil
	})
}

func TestTableConvergesWhenEveryDeltaIsLost(t *testing.T) {
	var worst time.Duration
	for seed := range uint64(20) {
		c := discoverytest.New(start, seed)
		nodes := startHosts(t, c, 10, 5)
		await(t, c, 20*time.Second, "start", c.Converged)
		c.SetFaults(discoverytest.Faults{Drop: func(_, _ discovery.HostID, k table.Kind) bool {
			return k == table.KindDelta || k == table.KindAnnounce
		}})
		nodes[3].Announce([]discovery.Endpoint{endpoint(3, 99)}, []discovery.EndpointID{endpointID(3, 1)})
		worst = max(worst, await(t, c, 4*time.Second, "digests alone", c.Converged))
	}
	t.Logf("10 hosts, every delta lost: worst of 20 runs %v", worst)
}

// An agent that is being restarted does not hear the pull; who else is asked
// answers before anybody notices.
func TestPullThatNobodyHeardIsRepeatedSoon(t *testing.T) {
	c := discoverytest.New(start, 1)
	nodes := startHosts(t, c, 3, 5)
	await(t, c, 20*time.Second, "start", c.Converged)
	var delta, pull bool // lost
	c.SetFaults(discoverytest.Faults{Drop: func(_, to discovery.HostID, k table.Kind) bool {
		switch {
		case k == table.KindDelta && !delta && to == hostID(1):
			delta = true
			return true
		case k == table.KindPull && !pull:
			pull = true
			return true
		}
		return false
	}})
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 98)}, nil)
	c.Step(5 * discoverytest.Tick)
	nodes[0].Announce([]discovery.Endpoint{endpoint(0, 99)}, nil)
	took := await(t, c, 300*time.Millisecond, "a pull that was lost", c.Converged)
	if !delta || !pull {
		t.Fatalf("lost a delta: %v, lost a pull: %v; want both", delta, pull)
	}
	t.Logf("equal %v after the announcement", took)
}

func TestUpdatesSurviveLossAtAwkwardSizes(t *testing.T) {
	for _, n := range []int{5, 9, 10, 30} {
		for _, loss := range []float64{0, 0.2} {
			t.Run(fmt.Sprintf("%d hosts, loss %v", n, loss), func(t *testing.T) {
				c := discoverytest.New(start, uint64(n))
				nodes := startHosts(t, c, n, 0)
				await(t, c, 20*time.Second, "start", c.Converged)
				c.SetFaults(discoverytest.Faults{Loss: loss, Delay: 30 * time.Millisecond})
				for i := range 1000 {
					h := i % n
					nodes[h].Announce([]discovery.Endpoint{endpoint(h, i/n%200)}, nil)
					if i%3 == 0 {
						c.Step(discoverytest.Tick)
					}
				}
				took := await(t, c, 30*time.Second, "end", c.Converged)
				t.Logf("equal %v after the last update", took)
			})
		}
	}
}

func TestDeletesOnBothSidesOfALongPartitionStay(t *testing.T) {
	c := discoverytest.New(start, 1)
	nodes := startHosts(t, c, 4, 10)
	await(t, c, 20*time.Second, "start", c.Converged)
	c.Cut([]discovery.HostID{hostID(0), hostID(1)}, []discovery.HostID{hostID(2), hostID(3)})
	c.SetStep(100 * time.Millisecond)
	c.Step(time.Minute)
	nodes[0].Announce(nil, []discovery.EndpointID{endpointID(0, 1), endpointID(0, 2)})
	nodes[3].Announce(nil, []discovery.EndpointID{endpointID(3, 1)})
	c.Step(3 * time.Hour)
	nodes[2].Announce([]discovery.Endpoint{endpoint(2, 50)}, []discovery.EndpointID{endpointID(2, 7)})
	for _, r := range nodes[0].View().Endpoints {
		if far := r.Host == hostID(2) || r.Host == hostID(3); far != (r.Status == discovery.EndpointSuspended) || far != r.Hidden {
			t.Fatalf("%s of %s: status %v, hidden %v", r.Name, r.Host, r.Status, r.Hidden)
		}
	}
	c.Heal()
	c.SetStep(discoverytest.Tick)
	t.Logf("equal %v after the heal", await(t, c, 5*time.Second, "heal", c.Converged))
}

func TestForgottenHostStaysRefusedAtEveryIncarnation(t *testing.T) {
	c := discoverytest.New(start, 1)
	nodes := startHosts(t, c, 4, 3)
	await(t, c, 20*time.Second, "start", c.Converged)
	nodes[3].Kill()
	for _, n := range nodes[:3] {
		n.Forget([]discovery.HostID{hostID(3)})
	}
	for life := range 3 {
		var by string
		back := startHost(t, c, discoverytest.Config{Self: hostID(3), Incarnation: uint64(10 * (life + 1)), Header: header(3),
			Endpoints: endpoints(3, 5), Forgotten: func(s string) { by = s }})
		await(t, c, 10*time.Second, "to be told", func() error {
			if by == "" {
				return fmt.Errorf("life %d was not told that it is forgotten", life)
			}
			return nil
		})
		back.Announce([]discovery.Endpoint{endpoint(3, 77)}, nil)
		c.Step(10 * time.Second)
		for i, n := range nodes[:3] {
			for _, m := range n.View().Members {
				if m.ID == hostID(3) {
					t.Fatalf("life %d: host %d lists the forgotten host", life, i)
				}
			}
			for _, r := range n.View().Endpoints {
				if r.Host == hostID(3) {
					t.Fatalf("life %d: host %d shows %s of the forgotten host", life, i, r.Name)
				}
			}
			if got, want := n.View().Members[0].Header.GoneHash, table.HashID(hostID(3)); got != want {
				t.Fatalf("gone hash %x, want %x", got, want)
			}
		}
		if got := len(back.View().Endpoints); got < 6 {
			t.Fatalf("life %d: the forgotten host shows %d endpoints, want its own 6 among them", life, got)
		}
		back.Kill()
	}
}

func TestStormDoesNotDelayAnIdleHost(t *testing.T) {
	c := discoverytest.New(start, 1)
	nodes := startHosts(t, c, 20, 0)
	await(t, c, 20*time.Second, "start", c.Converged)
	seen := func() error {
		for i, n := range nodes {
			if !has(n, endpointID(19, 0)) {
				return fmt.Errorf("host %d does not show it", i)
			}
		}
		return nil
	}
	for i := range 5000 {
		h := i % 19
		nodes[h].Announce([]discovery.Endpoint{endpoint(h, i/19%200)}, nil)
		if i%20 == 0 {
			c.Step(discoverytest.Tick)
		}
		if i == 2500 {
			nodes[19].Announce([]discovery.Endpoint{endpoint(19, 0)}, nil)
		}
		if i == 2500+20*20 { // 200 ms later, in the middle of the storm
			if err := seen(); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, c, 5*time.Second, "end", c.Converged)
}

func has(n *discoverytest.Node, id discovery.EndpointID) bool {
	for _, r := range n.View().Endpoints {
		if r.ID == id {
			return true
		}
	}
	return false
}
