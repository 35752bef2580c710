package discoverytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// ErrNoMember is returned by Call for a host that is not reached.
var ErrNoMember = errors.New("no such member")

// Config is what a host starts from; Self is needed.
type Config struct {
	Self        discovery.HostID
	Incarnation uint64
	Header      discovery.Header
	Endpoints   []discovery.Endpoint
	Saved       []byte
	DNSGrace    time.Duration
	Serve       func(from discovery.HostID, body []byte) []byte
	Forgotten   func(by string)
}

// Node is one host. Its methods are those of gossip.Gossip.
type Node struct {
	c       *Cluster
	cfg     Config
	t       *table.Table
	x       *table.Exchange
	running bool
	left    bool
	truth   map[discovery.EndpointID]discovery.Endpoint
	heard   map[discovery.HostID]time.Time // when the other was last reached
	met     map[discovery.HostID]time.Time // since when it is reached without a break
	probed  time.Time
	changes chan struct{}
	seen    uint64
	told    bool
}

// Start switches a host on. One that ran before goes on from cfg, not from
// what it had.
func (c *Cluster) Start(cfg Config) (*Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := table.New(table.Config{Self: cfg.Self, Incarnation: cfg.Incarnation, Header: cfg.Header,
		Endpoints: cfg.Endpoints, Saved: cfg.Saved, Grace: cfg.DNSGrace, Now: c.now})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Self, err)
	}
	n := &Node{c: c, cfg: cfg, running: true, changes: make(chan struct{}, 1),
		// Hosts started together do not probe in step.
		probed: c.now.Add(-time.Duration(c.rand.Int64N(int64(probeEvery)))),
		t:      t, x: table.NewExchange(t, 1, c.rand.Uint64()),
		truth: map[discovery.EndpointID]discovery.Endpoint{},
		heard: map[discovery.HostID]time.Time{}, met: map[discovery.HostID]time.Time{}}
	for _, e := range cfg.Endpoints {
		n.truth[e.ID] = e
	}
	if c.nodes[cfg.Self] == nil {
		c.order = append(c.order, cfg.Self)
	}
	c.nodes[cfg.Self] = n
	return n, nil
}

// Kill switches the host off without a word, and returns what it had saved.
func (n *Node) Kill() []byte {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.running = false
	b, err := n.t.MarshalBinary()
	if err != nil {
		panic(err) // it has no way to fail
	}
	return b
}

// Stop is what an agent does when it is told to end: the host says that it
// will be back soon.
func (n *Node) Stop() []byte {
	n.SetHeader(func(h *discovery.Header) { h.Flags |= discovery.FlagBackSoon })
	n.c.Step(2 * Tick)
	return n.Kill()
}

func (n *Node) name() string { return n.x.String() }

// look is what a host does from time to time. The cluster's lock is held.
func (n *Node) look() {
	n.watch()
	n.x.Tick(n.c.now)
	n.x.Flush()
	if n.c.now.Sub(n.probed) >= probeEvery {
		n.probed = n.c.now
		n.probe()
	}
	n.flushOut()
}

// watch plays the failure detector.
func (n *Node) watch() {
	for _, id := range n.c.order {
		if id == n.cfg.Self {
			continue
		}
		if n.c.reach(n.cfg.Self, id) && n.c.nodes[id].left {
			n.t.SetMember(n.c.now, id, addrOf(id), discovery.StatusLeft)
			continue
		}
		if !n.c.reach(n.cfg.Self, id) {
			delete(n.met, id)
			if last, ok := n.heard[id]; ok && n.c.now.Sub(last) >= Detection {
				n.t.SetMember(n.c.now, id, addrOf(id), discovery.StatusDead)
			}
			continue
		}
		n.heard[id] = n.c.now
		if n.met[id].IsZero() {
			n.met[id] = n.c.now
		}
		if n.c.now.Sub(n.met[id]) >= Reunion && n.t.SetMember(n.c.now, id, addrOf(id), discovery.StatusAlive) {
			n.x.Compare(id) // as the push/pull of a contact does
		}
	}
}

// probe asks one alive member for its ack, as memberlist does each second.
func (n *Node) probe() {
	var alive []discovery.HostID
	for _, id := range n.c.order {
		if id != n.cfg.Self && n.c.reach(n.cfg.Self, id) {
			alive = append(alive, id)
		}
	}
	if len(alive) == 0 || n.c.rand.Float64() < n.c.faults.Loss {
		return
	}
	peer := n.c.nodes[alive[n.c.rand.IntN(len(alive))]]
	if err := n.x.Acked(n.c.now, peer.cfg.Self, peer.x.Ack()); err != nil {
		panic(err) // it was encoded a line above
	}
}

func (n *Node) receive(b []byte) {
	if _, err := n.x.Receive(n.c.now, b); err != nil {
		panic(err) // the links lose and repeat messages, they do not spoil them
	}
	n.flushOut()
}

// flushOut sends what the host wants sent, and signals its changes.
func (n *Node) flushOut() {
	for _, p := range n.x.Take() {
		n.c.send(n.cfg.Self, p)
	}
	if r := n.t.Revision(); r != n.seen {
		n.seen = r
		select {
		case n.changes <- struct{}{}:
		default:
		}
	}
	if by := n.x.GoneSaid(); by != "" && !n.told {
		n.told = true
		if n.cfg.Forgotten != nil {
			n.cfg.Forgotten(by)
		}
	}
}

// Run moves the cluster's time along with the clock until ctx ends. One Run
// serves all hosts of the cluster; under testing/synctest it costs no time.
func (n *Node) Run(ctx context.Context) error {
	t := time.NewTicker(Tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			if d := now.Sub(n.c.Now()); d > 0 {
				n.c.Step(d)
			}
		}
	}
}

// Announce is gossip.Gossip's.
func (n *Node) Announce(up []discovery.Endpoint, del []discovery.EndpointID) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for _, id := range del {
		delete(n.truth, id)
	}
	for _, e := range up {
		n.truth[e.ID] = e
	}
	n.t.Announce(up, del)
	n.flushOut()
}

// SetHeader is gossip.Gossip's.
func (n *Node) SetHeader(change func(*discovery.Header)) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.t.SetHeader(change)
	n.flushOut()
}

// View is gossip.Gossip's.
func (n *Node) View() discovery.View {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.t.View()
}

// Changes is gossip.Gossip's.
func (n *Node) Changes() <-chan struct{} { return n.changes }

// Forget is gossip.Gossip's.
func (n *Node) Forget(ids []discovery.HostID) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.t.Forget(ids)
	n.flushOut()
}

// Reconsider is gossip.Gossip's: all hosts of a cluster in memory are taken in.
func (n *Node) Reconsider(drop []discovery.HostID) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.t.Reconsider(drop)
	n.flushOut()
}

// SetHolder is gossip.Gossip's.
func (n *Node) SetHolder(h table.Holder) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.t.SetHolder(h)
	n.flushOut()
}

// Running is gossip.Gossip's: no two hosts of a cluster in memory have one id.
func (n *Node) Running(netip.AddrPort) bool { return false }

// Join is gossip.Gossip's: hosts of a cluster in memory know each other from
// the start, so it only waits until one of them holds this host's state.
func (n *Node) Join(ctx context.Context, _ []netip.AddrPort, _ func(string)) ([]discovery.Member, error) {
	for {
		if n.takenIn() {
			return n.View().Members, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-n.changes:
		case <-time.After(Tick):
		}
	}
}

func (n *Node) takenIn() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return slices.ContainsFunc(n.c.order, func(id discovery.HostID) bool {
		return id != n.cfg.Self && n.x.HeldBy(id).Inc == n.t.OwnVersion().Inc
	})
}

// Leave is gossip.Gossip's.
func (n *Node) Leave(context.Context) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	clear(n.truth)
	n.t.SetHeader(func(h *discovery.Header) { h.Flags |= discovery.FlagGone })
	n.x.Flush()
	n.flushOut()
	n.left = true
	return nil
}

// Call is gossip.Gossip's; the answer comes at once.
func (n *Node) Call(_ context.Context, to discovery.HostID, body []byte) ([]byte, error) {
	n.c.mu.Lock()
	peer, ok := n.c.nodes[to], n.c.reach(n.cfg.Self, to)
	n.c.mu.Unlock()
	if !ok || peer.cfg.Serve == nil {
		return nil, fmt.Errorf("call member %s: %w", to, ErrNoMember)
	}
	return peer.cfg.Serve(n.cfg.Self, body), nil
}

// Stats returns the exchange's counters.
func (n *Node) Stats() table.Stats {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.x.Stats()
}
