// Package tunnel proves, again and again, that encapsulated packets pass between this
// host and the other members: each way, up to which size, how fast. It sends frames in
// the members' own network and changes nothing in the kernel.
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
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// mostFrames are sent each second to all members together.
const mostFrames = 32

// Config is what a tunnel is made of.
type Config struct {
	Self discovery.HostID
	Name string // of this host
	VTEP netip.Addr
	Port uint16 // UDP, of all members
	// Open opens a socket; it fails as long as the device is not there.
	Open func() (Socket, error)
	// OpenBulk opens what bulk is sent by; nil: none is.
	OpenBulk func() (Bulk, error)
	// Tap opens a tap; nil: which end drops frames is not known.
	Tap func() (Tap, error)
	// View and Call are the gossip's. They are not used before Run.
	View func() discovery.View
	Call func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
	// Changed is called when Path returns another size.
	Changed func()
	// Events takes what became of the tunnel to a member.
	Events event.Sink
	Log    *slog.Logger
}

// Tunnel proves the tunnel to the other members, and answers when they do.
type Tunnel struct {
	cfg      Config
	prober   *prober
	schedule *schedule

	mu   sync.Mutex // guards what follows
	link link
}

// link is the device that encapsulated packets leave by.
type link struct {
	mtu int // bytes
	dev string
}

// New returns a tunnel that proves nothing before Run.
func New(cfg Config) *Tunnel {
	p := &prober{
		self: host{cfg.Name, cfg.VTEP}, id: cfg.Self, port: cfg.Port, overhead: plan.Overhead(cfg.VTEP),
		call: cfg.Call, changed: cfg.Changed, tell: teller{cfg.Log, cfg.Events},
		wire: newWire(cfg.Self, cfg.Open), watch: newWatch(cfg.Self, cfg.Tap, cfg.Log), bulks: newBulks(cfg.OpenBulk), records: newRecords(),
		limit: rate.NewLimiter(mostFrames, mostFrames),
	}
	return &Tunnel{cfg: cfg, prober: p, schedule: newSchedule()}
}

// Run answers and proves until ctx ends.
func (t *Tunnel) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.prober.wire.run(ctx) })
	g.Go(func() error { return t.prober.watch.run(ctx) })
	g.Go(func() error { return t.prober.bulks.run(ctx) })
	g.Go(func() error { t.takeTurns(ctx, g); return nil })
	return g.Wait()
}

// followEach is how often the members are looked at: an old proof or a new member can
// wait for that long.
const followEach = time.Second

// takeTurns gives each member its turn until ctx ends.
func (t *Tunnel) takeTurns(ctx context.Context, g *errgroup.Group) {
	var followed time.Time
	members := 0
	for ctx.Err() == nil {
		if now := time.Now(); now.Sub(followed) >= followEach {
			followed = now
			members = t.follow(now)
		}
		due, next := t.schedule.take(time.Now())
		for _, p := range due {
			g.Go(func() error { t.turn(ctx, p, members); return nil })
		}
		wait, cancel := context.WithDeadline(ctx, next)
		select {
		case <-wait.Done():
		case <-t.schedule.wake:
			followed = time.Time{}
		}
		cancel()
	}
}

// follow takes the members as they are now.
func (t *Tunnel) follow(now time.Time) (members int) {
	peers := t.peers(t.cfg.View())
	t.prober.records.follow(peers)
	t.schedule.follow(peers, now)
	return len(peers)
}

// turn proves the tunnel to one member, of so many.
func (t *Tunnel) turn(ctx context.Context, to peer, members int) {
	why, _ := t.prober.prove(ctx, to)
	if why == "" && to.full > 0 && t.prober.records.sizedOf(to.id).due(time.Now(), to.period, members) {
		t.prober.size(ctx, to)
	}
	if why == "" && t.prober.dueBulk(to, time.Now(), members) {
		t.prober.bulk(ctx, to, t.device())
	}
	t.schedule.done(to.id, why == "", time.Now())
}

// peers are the other members.
func (t *Tunnel) peers(v discovery.View) []peer {
	t.mu.Lock()
	mtu := t.link.mtu
	t.mu.Unlock()
	mine := map[discovery.NetworkID]bool{}
	for _, m := range v.Members {
		if m.ID == v.Self {
			for _, n := range m.Header.Networks {
				mine[n.ID] = true
			}
		}
	}
	out := make([]peer, 0, len(v.Members))
	for _, m := range v.Members {
		if m.ID == t.cfg.Self || m.Status == discovery.StatusLeft || m.Header.Flags&discovery.FlagGone != 0 || !m.Header.VTEP.IsValid() {
			continue
		}
		p := peer{host: host{m.Name, m.Header.VTEP}, id: m.ID, full: min(mtu, int(m.Header.Carries())), alive: m.Status == discovery.StatusAlive}
		p.shares = slices.ContainsFunc(m.Header.Networks, func(n discovery.HeaderNetwork) bool { return mine[n.ID] })
		p.period = period(p.shares, len(v.Members)-1)
		out = append(out, p)
	}
	return out
}

// Use says by which device encapsulated packets leave, and its MTU. When that is
// another, everything is proven anew.
func (t *Tunnel) Use(mtu int, dev string) {
	t.mu.Lock()
	now := link{mtu, dev}
	other := t.link != now
	t.link = now
	t.mu.Unlock()
	if other {
		t.schedule.hurry()
	}
}

func (t *Tunnel) device() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link.dev
}

// Path is the largest underlay packet that passes to every member, in bytes, where it
// is less than the devices carry; 0: nothing is less.
func (t *Tunnel) Path() int { return t.prober.records.path() }

// Proofs are the newest ones, sorted by the members' names.
func (t *Tunnel) Proofs() []Proof { return t.prober.records.proofs(time.Now()) }

// Refresh proves the tunnel to every member that is alive, and returns when that is
// done or ctx ends.
func (t *Tunnel) Refresh(ctx context.Context) error {
	began := time.Now()
	t.schedule.hurry()
	for !t.refreshed(began) {
		if !pace.Sleep(ctx, again) {
			return ctx.Err()
		}
	}
	return nil
}

func (t *Tunnel) refreshed(since time.Time) bool {
	return !slices.ContainsFunc(t.Proofs(), func(p Proof) bool { return p.Alive && p.At.Before(since) })
}

// Serve answers another member's question which of its requests reached this host;
// false: the body asks something else.
func (t *Tunnel) Serve(from discovery.HostID, body []byte) (answer []byte, ok bool) {
	if len(body) == bulkQuestionSize && body[0] == bulkKind {
		return t.prober.bulks.answer(from, body), true
	}
	if len(body) == 0 || body[0] != questionKind {
		return nil, false
	}
	switch len(body) {
	case questionSize - 1:
		return t.prober.wire.answerOlder(body), true
	case questionSize:
		first := asked(body)
		t.prober.watch.begin()
		return evidence{
			looked:  t.prober.watch.looks(),
			came:    t.prober.wire.came(from, first),
			arrived: t.prober.watch.passed(false, requestKind, from, first),
			left:    t.prober.watch.passed(true, replyKind, t.cfg.Self, first),
		}.answer(), true
	}
	return []byte{0}, true
}

// checked is how many members a newcomer proves the tunnel to. More would not tell more
// of it, and would wait for each other.
const checked = 64

// acquainted is how long a member that is busy may take to read in the pool that there
// is a newcomer: until then it lets none of its packets in.
const acquainted = 3 * time.Second

// Check finds out whether encapsulated packets pass between this host and the other
// members, both ways. It fails when they pass with none of them, and so does join.
// A single member that cannot be reached is a warning, in progress and in the log.
func (t *Tunnel) Check(ctx context.Context, progress func(string)) error {
	progress(fmt.Sprintf("probing the tunnel, port %d/udp", t.cfg.Port))
	all := t.peers(t.cfg.View())
	t.prober.records.follow(all)
	alive := slices.DeleteFunc(all, func(p peer) bool { return !p.alive })
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	alive = alive[:min(len(alive), checked)]
	unhurried := t.prober.unhurried()
	var mu sync.Mutex
	var blocked, hints []string
	var wg sync.WaitGroup
	for _, p := range alive {
		wg.Go(func() {
			why, hint := unhurried.prove(ctx, p)
			if why != "" && pace.Sleep(ctx, acquainted) {
				why, hint = unhurried.prove(ctx, p)
			}
			if why != "" {
				mu.Lock()
				defer mu.Unlock()
				blocked, hints = append(blocked, why), append(hints, hint)
			}
		})
	}
	wg.Wait()
	slices.Sort(blocked)
	if len(blocked) > 0 && len(blocked) == len(alive) {
		slices.Sort(hints)
		return api.Errorf(api.KindFailed, "%s", strings.Join(blocked, "; ")).WithHint("%s", strings.Join(slices.Compact(hints), "\n"))
	}
	for _, why := range blocked {
		progress("warning: " + why)
		t.cfg.Log.Warn("tunnel blocked", "why", why)
	}
	return nil
}
