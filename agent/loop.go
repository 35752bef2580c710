package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// loop brings the cluster's state into this host's kernel and DNS server. Whatever
// has changed, one pass takes the newest state whole.
type loop struct {
	from     sources
	wake     pace.Signal
	disputes *networks.Disputes // hears of each view
	events   event.Sink         // of this member
	ended    <-chan struct{}    // with the member's tasks
	began    time.Time
	log      *slog.Logger

	mu       sync.Mutex
	waiters  []chan error                // of Settle
	err      error                       // of the last pass
	zone     dns.Zone                    // of the last pass
	held     map[discovery.NetworkID]int // by requests, that need devices now
	made     networkSet                  // with devices since the last pass
	planned  networkSet                  // by the pass under way; nil: it has not planned yet
	complete bool                        // everything was read once
	caughtUp time.Time                   // when the first pass ended that was of everything; zero: none has
}

type networkSet map[discovery.NetworkID]bool

// sources are what a pass reads, and where it puts what it planned.
type sources struct {
	view     func() discovery.View
	networks func() (all []discovery.Network, read bool)
	heard    func(discovery.View) bool // of every registered host
	hosts    func(discovery.View) (all map[discovery.HostID]discovery.Registered, read bool)
	own      func() plan.Own
	blocks   func() []discovery.HeaderNetwork
	settings plan.Settings

	header  func(change func(*discovery.Header))
	set     func(ctx context.Context, s overlay.State) error
	names   func(z dns.Zone)
	refused func(now []strict.Refused)
	seen    func(v discovery.View, complete bool, now time.Time) // may be nil
	changes [2]<-chan struct{}                                   // of gossip and leases; each has this one receiver
}

func newLoop(ended <-chan struct{}, events event.Sink, log *slog.Logger) *loop {
	return &loop{began: time.Now(), events: events, wake: pace.NewSignal(), ended: ended, log: log, held: map[discovery.NetworkID]int{}}
}

func (l *loop) run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		l.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-l.from.changes[0]:
		case <-l.from.changes[1]:
		case <-tick.C: // a network may have lingered long enough
		}
	}
}

// pass plans the newest snapshot and applies it. The kernel comes before the
// names: a name that is answered has its FDB entry already.
func (l *loop) pass(ctx context.Context) {
	waiters, own := l.begin()
	snap := l.snapshot()
	l.plans(snap, own)
	l.announce(own)
	state, zone, refused := plan.New(l.from.settings, snap, own)
	l.from.refused(refused)
	err := l.from.set(ctx, state)
	l.from.names(zone)
	if l.from.seen != nil {
		l.from.seen(discovery.View{Self: snap.Self, Members: snap.Members, Endpoints: snap.Endpoints}, snap.Complete, time.Now())
	}
	l.mu.Lock()
	before := l.err
	l.err, l.zone, l.made = err, zone, l.planned
	if snap.Complete && l.caughtUp.IsZero() {
		l.caughtUp = time.Now()
	}
	l.mu.Unlock()
	if err != nil && ctx.Err() == nil && (before == nil || before.Error() != err.Error()) {
		l.log.Warn("kernel not as wanted, will be retried", "err", err)
	}
	for _, w := range waiters {
		w <- err
	}
}

// begin takes what the pass is for. What was held before is taken with what is
// journaled: a request writes the journal before it lets go, so the pass knows the
// network by one of the two.
func (l *loop) begin() ([]chan error, plan.Own) {
	l.mu.Lock()
	waiters := l.waiters
	held := slices.Collect(maps.Keys(l.held))
	l.waiters, l.planned = nil, nil
	l.mu.Unlock()
	own := l.from.own()
	for _, id := range held {
		own.Active[id] = true
	}
	return waiters, own
}

// plans says which networks have devices when this pass ends. Without a record of
// the network there is nothing to make them of.
func (l *loop) plans(snap discovery.Snapshot, own plan.Own) {
	next := networkSet{}
	for _, n := range snap.Networks {
		if own.Active[n.ID] {
			next[n.ID] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.planned = next
}

// Hold implements endpoint.Cluster: it keeps the network's devices from now until
// release, and returns when they are there. The need is noted first. So a pass that
// begins later keeps the network, and one under way says whether it does: when it
// does not, or cannot say yet, the next pass is waited for.
func (l *loop) Hold(ctx context.Context, id discovery.NetworkID) (release func(), err error) {
	l.mu.Lock()
	l.held[id]++
	there := l.made[id] && l.planned[id]
	l.mu.Unlock()
	if !there {
		err = l.Settle(ctx)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[id]--; l.held[id] == 0 {
			delete(l.held, id)
		}
	}, err
}

// Settle waits for a pass that began after this call: what was changed before
// it is in the kernel and in the DNS server when it returns.
func (l *loop) Settle(ctx context.Context) error {
	w := make(chan error, 1)
	l.mu.Lock()
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	l.Poke()
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return endpoint.ErrEnded
	}
}

// Poke asks for a pass; several at once are one.
func (l *loop) Poke() { l.wake.Set() }

// last is the outcome of the last pass.
func (l *loop) last() (dns.Zone, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.zone, l.err
}

// snapshot joins the newest view of gossip with the newest networks.
func (l *loop) snapshot() discovery.Snapshot {
	v := l.from.view()
	all, read := l.from.networks()
	l.disputes.Note(v)
	hosts, hostsRead := l.from.hosts(v)
	return discovery.Snapshot{
		Self: v.Self, Members: v.Members, Networks: all, Endpoints: v.Endpoints, Refused: v.Refused,
		Hosts: hosts, HostsRead: hostsRead,
		Complete: v.Complete && l.whole(v, read),
	}
}

// whole reports whether everything was read once.
func (l *loop) whole(v discovery.View, read bool) bool {
	l.mu.Lock()
	was := l.complete
	l.mu.Unlock()
	if was || !read || !v.Complete || !l.from.heard(v) {
		return was
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complete = true
	return true
}

// announce tells the members which networks are active on this host and which
// blocks it holds.
func (l *loop) announce(own plan.Own) {
	blocks := l.from.blocks()
	all, _ := l.from.networks()
	var out []discovery.HeaderNetwork
	for _, n := range all {
		i := slices.IndexFunc(blocks, func(h discovery.HeaderNetwork) bool { return h.ID == n.ID })
		if i < 0 && !own.Active[n.ID] {
			continue
		}
		h := discovery.HeaderNetwork{VNI: n.VNI, ID: n.ID}
		if i >= 0 {
			h.Blocks = blocks[i].Blocks
		}
		out = append(out, h)
	}
	l.from.header(func(h *discovery.Header) { h.Networks = out })
}
