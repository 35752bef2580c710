package discoverytest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

const (
	// Tick is how far time moves between two looks at the hosts.
	Tick = 10 * time.Millisecond
	// Detection is how long a silent host is taken for alive.
	Detection = 5 * time.Second
	// Reunion is how long it takes two hosts to notice that they reach each
	// other again.
	Reunion = time.Second

	probeEvery = time.Second
)

// Faults is what the links do to messages. The zero value is a perfect network
// with a delay of one Tick.
type Faults struct {
	Loss, Dup float64       // probability for each datagram
	Delay     time.Duration // at most, at random: datagrams overtake each other
	// Drop discards messages of its choice, of connections too; nil: none.
	Drop func(from, to discovery.HostID, kind table.Kind) bool
}

// Cluster is a set of hosts and the links between them. Safe for concurrent
// use.
type Cluster struct {
	mu     sync.Mutex
	now    time.Time
	rand   *rand.Rand
	nodes  map[discovery.HostID]*Node
	order  []discovery.HostID
	side   map[discovery.HostID]int // of the cut; equal sides reach each other
	faults Faults
	wires  []delivery
	step   time.Duration
}

type delivery struct {
	at       time.Time
	from, to discovery.HostID
	body     []byte
}

// New returns a cluster without hosts, whose time begins at start: time.Now()
// if Run is to move it along with the clock. Equal seeds give equal runs.
func New(start time.Time, seed uint64) *Cluster {
	return &Cluster{now: start, rand: rand.New(rand.NewPCG(seed, 2)), nodes: map[discovery.HostID]*Node{},
		side: map[discovery.HostID]int{}, step: Tick}
}

// SetFaults changes what the links do from now on.
func (c *Cluster) SetFaults(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// SetStep changes how far time moves between two looks, for tests over hours.
func (c *Cluster) SetStep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = d
}

// Cut separates the hosts: those of one group reach each other only, and those
// of none reach each other.
func (c *Cluster) Cut(groups ...[]discovery.HostID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.side)
	for i, g := range groups {
		for _, id := range g {
			c.side[id] = i + 1
		}
	}
}

// Heal undoes Cut.
func (c *Cluster) Heal() { c.Cut() }

// Now returns the cluster's time.
func (c *Cluster) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Step moves time on by d.
func (c *Cluster) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := c.now.Add(d); c.now.Before(end); {
		c.now = c.now.Add(c.step)
		c.deliver()
		for _, id := range c.order {
			if n := c.nodes[id]; n.running {
				n.look()
			}
		}
	}
}

// Await moves time on until check returns nil, and returns how long it took.
// After limit it returns check's last error.
func (c *Cluster) Await(limit time.Duration, check func() error) (time.Duration, error) {
	for took := time.Duration(0); ; took += c.step {
		err := check()
		if err == nil {
			return took, nil
		}
		if took >= limit {
			return took, fmt.Errorf("after %v: %w", took, err)
		}
		c.Step(c.step)
	}
}

// Converged returns nil when every running host holds exactly what each
// running owner announces, and all hold the same of the others.
func (c *Cluster) Converged() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first *Node
	for _, id := range c.order {
		n := c.nodes[id]
		if !n.running {
			continue
		}
		if first == nil {
			first = n
		}
		if n.t.Root() != first.t.Root() {
			return fmt.Errorf("%s and %s hold different tables", first.name(), n.name())
		}
		if err := c.holdsTruth(n); err != nil {
			return err
		}
	}
	return nil
}

// holdsTruth compares what n holds of each running owner with what it said.
func (c *Cluster) holdsTruth(n *Node) error {
	held := map[discovery.HostID]map[discovery.EndpointID]discovery.Endpoint{}
	for _, r := range n.t.View().Endpoints {
		if held[r.Host] == nil {
			held[r.Host] = map[discovery.EndpointID]discovery.Endpoint{}
		}
		held[r.Host][r.ID] = r.Endpoint
	}
	for id, o := range c.nodes {
		if !o.running || n.t.Forgotten(id) {
			continue
		}
		if len(held[id]) != len(o.truth) {
			return fmt.Errorf("%s holds %d endpoints of %s, which has %d", n.name(), len(held[id]), o.name(), len(o.truth))
		}
		for ep, want := range o.truth {
			if got, ok := held[id][ep]; !ok || !got.Equal(want) {
				return fmt.Errorf("%s holds %+v of %s, which has %+v", n.name(), got, o.name(), want)
			}
		}
	}
	return nil
}

func (c *Cluster) reach(a, b discovery.HostID) bool {
	x, y := c.nodes[a], c.nodes[b]
	return x != nil && y != nil && x.running && y.running && c.side[a] == c.side[b]
}

// send puts a message on the wire.
func (c *Cluster) send(from discovery.HostID, p table.Packet) {
	if !c.reach(from, p.To) || c.faults.Drop != nil && c.faults.Drop(from, p.To, p.Kind) {
		return
	}
	copies := 1
	if !p.Reliable {
		if c.rand.Float64() < c.faults.Loss {
			return
		}
		if c.rand.Float64() < c.faults.Dup {
			copies = 2
		}
	}
	for range copies {
		at := c.now.Add(c.step)
		if c.faults.Delay > 0 {
			at = at.Add(time.Duration(c.rand.Int64N(int64(c.faults.Delay))))
		}
		c.wires = append(c.wires, delivery{at, from, p.To, p.Body})
	}
}

// deliver hands over what has arrived, in the order of arrival.
func (c *Cluster) deliver() {
	var due []delivery
	c.wires = slices.DeleteFunc(c.wires, func(d delivery) bool {
		if d.at.After(c.now) {
			return false
		}
		due = append(due, d)
		return true
	})
	slices.SortStableFunc(due, func(a, b delivery) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	for _, d := range due {
		if c.reach(d.from, d.to) {
			c.nodes[d.to].receive(bytes.Clone(d.body))
		}
	}
}

// addrOf invents a gossip address for a host: a documentation prefix (RFC
// 3849) with the host's own bits.
func addrOf(id discovery.HostID) netip.AddrPort {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	copy(a[4:], id[:12])
	return netip.AddrPortFrom(netip.AddrFrom16(a), 7946)
}
