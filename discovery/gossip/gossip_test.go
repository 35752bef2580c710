package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/weft-net/weft/discovery"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for timers, not for processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	// A probe that was under way when memberlist was shut down ends by itself,
	// within its interval.
	for end := time.Now().Add(5 * time.Second); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var nextAddr atomic.Uint32

// loopback returns an address of 127.0.0.0/8 that no other test uses, in this
// process or in one that runs beside it.
func loopback() netip.AddrPort {
	n := nextAddr.Add(1)
	pid := os.Getpid()
	a := netip.AddrFrom4([4]byte{127, byte(16 + pid>>8&0x7f), byte(pid), byte(1 + n%254)})
	return netip.AddrPortFrom(a, uint16(20000+n/254))
}

func testID(i int) discovery.HostID {
	sum := sha256.Sum256(fmt.Appendf(nil, "host %d", i))
	return discovery.HostID(sum[:16])
}

func endpoint(host, n int) discovery.Endpoint {
	var id discovery.EndpointID
	binary.BigEndian.PutUint32(id[:], uint32(host))
	binary.BigEndian.PutUint32(id[4:], uint32(n))
	return discovery.Endpoint{ID: id, Network: discovery.NetworkID{1}, Seq: 1, Runtime: "netns",
		MAC: discovery.MAC{0x0e, 0, 10, 42, byte(host), byte(n)}, Name: fmt.Sprintf("web%d", n), IPv4: netip.AddrFrom4([4]byte{10, 42, byte(host), byte(n)})}
}

// node is one member under test, which can be stopped and started again.
type node struct {
	t    *testing.T
	cfg  Config
	tune func(*Gossip, *memberlist.Config)
	*Gossip
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	saved []byte
}

type option func(*node)

func withKeys(k byte) option {
	return func(n *node) { n.cfg.Keys = [][]byte{{0: k, 15: 1}} }
}

func withCluster(c byte) option { return func(n *node) { n.cfg.Cluster = [16]byte{c} } }

func withTune(f func(*Gossip, *memberlist.Config)) option { return func(n *node) { n.tune = f } }

func with(f func(*Config)) option { return func(n *node) { f(&n.cfg) } }

func newNode(t *testing.T, i int, opts ...option) *node {
	t.Helper()
	n := &node{t: t}
	n.cfg = Config{Self: testID(i), Name: fmt.Sprintf("h%d", i), Version: "0.1.0", Incarnation: 1, Nonce: uint64(1000 + i),
		Bind: loopback(), Cluster: [16]byte{7}, Keys: [][]byte{{0: 9, 15: 1}},
		Header: discovery.Header{VTEP: netip.MustParseAddr("192.0.2.1"), MTU: 1500}}
	n.cfg.Save = func(b []byte) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.saved = b
		return nil
	}
	if os.Getenv("WEFT_TEST_LOG") != "" {
		n.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", n.cfg.Name)
	}
	for _, o := range opts {
		o(n)
	}
	n.start()
	t.Cleanup(func() { n.halt() })
	return n
}

func (n *node) start() {
	n.t.Helper()
	g, err := open(n.cfg, n.tune)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.Run(ctx); err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}()
	n.Gossip, n.stop, n.done = g, cancel, done
}

func (n *node) halt() {
	n.stop()
	<-n.done
}

// restart starts the host again from what was saved, as its agent would.
func (n *node) restart() {
	n.t.Helper()
	n.mu.Lock()
	n.cfg.Saved = n.saved
	n.mu.Unlock()
	n.cfg.Incarnation++
	n.cfg.Nonce += 100000
	n.start()
}

// cluster starts hosts 0 to n-1 and joins all to the first.
func cluster(t *testing.T, n int, opts ...option) []*node {
	t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = newNode(t, i, opts...)
		if i > 0 {
			nodes[i].join(nodes[0])
		}
	}
	eventually(t, 30*time.Second, "all members alive everywhere", func() error {
		for _, n := range nodes {
			if got := n.count(discovery.StatusAlive); got != len(nodes) {
				return fmt.Errorf("%s sees %d of %d alive", n.cfg.Name, got, len(nodes))
			}
		}
		return converged(nodes)
	})
	return nodes
}

func (n *node) join(to *node) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := n.Join(ctx, []netip.AddrPort{to.Addr()}, nil); err != nil {
		n.t.Fatalf("%s joins %s: %v", n.cfg.Name, to.cfg.Name, err)
	}
}

func (n *node) count(s discovery.MemberStatus) (c int) {
	for _, m := range n.View().Members {
		if m.Status == s {
			c++
		}
	}
	return c
}

func (n *node) member(id discovery.HostID) (discovery.Member, bool) {
	for _, m := range n.View().Members {
		if m.ID == id {
			return m, true
		}
	}
	return discovery.Member{}, false
}

func (n *node) record(id discovery.EndpointID) (discovery.Record, bool) {
	for _, r := range n.View().Endpoints {
		if r.ID == id {
			return r, true
		}
	}
	return discovery.Record{}, false
}

// converged reports the first difference between the tables.
func converged(nodes []*node) error {
	for _, n := range nodes[1:] {
		if a, b := nodes[0].root(), n.root(); a != b {
			return fmt.Errorf("%s and %s differ", nodes[0].cfg.Name, n.cfg.Name)
		}
	}
	return nil
}

func (n *node) root() uint64 {
	n.replica.mu.Lock()
	defer n.replica.mu.Unlock()
	return n.replica.table.Root()
}

// eventually waits until check returns nil, and returns how long that took.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAnnouncedEndpointIsSeenEverywhereWithin200ms(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5)
	i := 0
	within(t, "announce", 200*time.Millisecond, 100, func() time.Duration {
		i++
		from := nodes[i%len(nodes)]
		e := endpoint(i%len(nodes), i)
		from.Announce([]discovery.Endpoint{e}, nil)
		if _, ok := from.record(e.ID); !ok {
			t.Fatal("the own view does not show an announced endpoint")
		}
		return eventually(t, 5*time.Second, "endpoint everywhere", func() error { return allHave(nodes, e.ID, true) })
	})
}

func TestWithdrawnEndpointIsGoneEverywhereWithin1s(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5)
	i := 0
	within(t, "withdraw", time.Second, 30, func() time.Duration {
		i++
		e := endpoint(0, i)
		nodes[0].Announce([]discovery.Endpoint{e}, nil)
		eventually(t, 5*time.Second, "endpoint everywhere", func() error { return allHave(nodes, e.ID, true) })
		nodes[0].Announce(nil, []discovery.EndpointID{e.ID})
		return eventually(t, 5*time.Second, "endpoint gone", func() error { return allHave(nodes, e.ID, false) })
	})
}

func allHave(nodes []*node, id discovery.EndpointID, want bool) error {
	for _, n := range nodes {
		if _, got := n.record(id); got != want {
			return fmt.Errorf("%s: %v, want %v", n.cfg.Name, got, want)
		}
	}
	return nil
}

// within fails when the 99th percentile of so many measurements is above the
// limit in each of three rounds: one may fall into a moment in which the machine
// does something else.
func within(t *testing.T, what string, limit time.Duration, count int, measure func() time.Duration) {
	t.Helper()
	for range 3 {
		var took []time.Duration
		for range count {
			took = append(took, measure())
		}
		slices.Sort(took)
		p99 := took[(count*99+99)/100-1]
		t.Logf("%s: median %v, p99 %v, worst %v of %d", what, took[count/2], p99, took[count-1], count)
		if p99 <= limit {
			return
		}
	}
	t.Errorf("%s: the 99th percentile is above %v in three rounds", what, limit)
}
