package gossip

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

const (
	atOnce     = 3 // hosts tried in one round
	backoffMin = 10 * time.Second
	backoffMax = 5 * time.Minute
	seedsEvery = time.Minute
	askedBy    = 8 // members that knock at one missing host each second, on average
)

// candidate is a host that should be a member and is not. The id is zero when
// only an address is known.
type candidate struct {
	id discovery.HostID
	at netip.AddrPort
}

// missing returns the known hosts that do not take part: from the table, and
// from the addresses given to Join where no member is.
func (g *Gossip) missing() []candidate {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []candidate
	taken := map[netip.AddrPort]bool{g.trans.addr: true}
	for _, p := range g.table.Peers() {
		alive := p.Seen && (p.Status == discovery.StatusAlive || p.Status == discovery.StatusSuspect)
		if alive {
			taken[p.Addr] = true
		} else if p.Addr.IsValid() {
			out = append(out, candidate{p.ID, p.Addr})
		}
	}
	for at := range g.given {
		if !taken[at] {
			out = append(out, candidate{at: at})
		}
	}
	return out
}

func (g *Gossip) aliveMembers() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.table.Peers() {
		if p.Seen && p.Status == discovery.StatusAlive {
			n++
		}
	}
	return n
}

// findLoop knocks at missing members once a second with one datagram, so that
// a link that comes back is noticed within about that time. Of many members
// only a few knock at each missing one.
func (g *Gossip) findLoop(ctx context.Context) {
	for sleep(ctx, jitter(findEvery)) {
		g.insistOnUs()
		missing := g.missing()
		rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
		share := askedBy / float64(g.aliveMembers()+1)
		for _, c := range missing[:min(len(missing), atOnce)] {
			if !c.id.IsZero() && rand.Float64() < share {
				g.work.Go(func() {
					if g.answers(c.id, c.at) {
						g.try(c)
					}
				})
			}
		}
	}
}

// insistOnUs contacts a member while none holds a state of this start of ours,
// although we see some: after a change of our address they refuse us until
// they have given up the old one, and nothing else would tell them again.
func (g *Gossip) insistOnUs() {
	if g.established() {
		return
	}
	g.mu.Lock()
	var alive []candidate
	for _, p := range g.table.Peers() {
		if p.Seen && p.Status == discovery.StatusAlive {
			alive = append(alive, candidate{p.ID, p.Addr})
		}
	}
	silent := g.x.Silent()
	g.mu.Unlock()
	if len(alive) > 0 && !silent {
		g.try(alive[rand.IntN(len(alive))])
	}
}

// answers reports whether a member of that id answers a probe at the address.
func (g *Gossip) answers(id discovery.HostID, at netip.AddrPort) bool {
	_, err := g.ml.Ping(id.String(), net.UDPAddrFromAddrPort(at))
	return err == nil
}

// contact exchanges states with a host. Each side learns all members of the
// other, so one contact heals a split.
func (g *Gossip) contact(c candidate) error {
	name := "host"
	if !c.id.IsZero() {
		name = c.id.String()
	}
	_, err := g.ml.Join([]string{name + "/" + c.at.String()})
	if err == nil {
		g.count.rejoins.Add(1)
		g.log.Debug("contact with missing member", "addr", c.at)
	}
	return err
}

// try makes contact in a goroutine; another round follows if it fails.
func (g *Gossip) try(c candidate) {
	g.work.Go(func() {
		if err := g.contact(c); err != nil {
			g.log.Debug("contact", "addr", c.at, "err", err)
		}
	})
}

// rejoinLoop does what memberlist does not: it tries again to reach members
// that were lost, over TCP, with a growing pause for each address.
func (g *Gossip) rejoinLoop(ctx context.Context) {
	r := rejoiner{g: g, pause: map[netip.AddrPort]backoff{}}
	for wait := jitter(200 * time.Millisecond); sleep(ctx, wait); wait = jitter(rejoinMean) {
		r.round(ctx)
	}
}

type rejoiner struct {
	g     *Gossip
	pause map[netip.AddrPort]backoff
	seeds []netip.AddrPort
	asked time.Time
}

type backoff struct {
	wait time.Duration
	next time.Time
}

func (r *rejoiner) round(ctx context.Context) {
	due := r.due(ctx, time.Now())
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, c := range due[:min(len(due), atOnce)] {
		b := r.pause[c.at]
		b.wait = min(max(2*b.wait, backoffMin), backoffMax)
		b.next = time.Now().Add(b.wait)
		r.pause[c.at] = b
		r.g.try(c)
	}
}

// due returns the missing hosts whose pause is over, and forgets the pauses of
// those that are back.
func (r *rejoiner) due(ctx context.Context, now time.Time) (due []candidate) {
	missing := r.g.missing()
	missing = append(missing, r.fromSeeds(ctx, missing, now)...)
	pauses := map[netip.AddrPort]backoff{}
	for _, c := range missing {
		if b, ok := r.pause[c.at]; ok {
			pauses[c.at] = b
		}
		if !now.Before(r.pause[c.at].next) {
			due = append(due, c)
		}
	}
	r.pause = pauses
	return due
}

// fromSeeds adds the pool's hosts, while someone is missing or we are alone.
func (r *rejoiner) fromSeeds(ctx context.Context, missing []candidate, now time.Time) (out []candidate) {
	if r.g.cfg.Seeds == nil || len(missing) == 0 && r.g.aliveMembers() > 0 {
		return nil
	}
	if now.Sub(r.asked) >= seedsEvery {
		seeds, err := r.g.cfg.Seeds(ctx)
		if err != nil {
			r.g.log.Debug("ask the pool for hosts", "err", err)
		} else {
			r.seeds = seeds
		}
		r.asked = now
	}
	known := r.g.knownAddrs()
	for _, at := range r.seeds {
		if !known[at] {
			out = append(out, candidate{at: at})
		}
	}
	return out
}

// knownAddrs returns the addresses of this host and of all hosts in the table,
// which need no second entry as a seed.
func (g *Gossip) knownAddrs() map[netip.AddrPort]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := map[netip.AddrPort]bool{g.trans.addr: true}
	for _, p := range g.table.Peers() {
		known[p.Addr] = true
	}
	for at := range g.given {
		known[at] = true
	}
	return known
}

// probeDownLoop looks again at members that are down: a host whose kernel
// comes up before its agent changes from dead to agent-down, and one that is
// switched off the other way.
func (g *Gossip) probeDownLoop(ctx context.Context) {
	for sleep(ctx, jitter(5*time.Second)) {
		for _, p := range g.downMembers() {
			g.work.Go(func() { g.judge(p.ID, p.Addr, g.currentVerdict(p.ID)) })
		}
	}
}

// downMembers returns at most a few members that are down, at random.
func (g *Gossip) downMembers() []table.Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []table.Peer
	for _, p := range g.table.Peers() {
		if p.Addr.IsValid() && (p.Status == discovery.StatusDead || p.Status == discovery.StatusAgentDown) {
			out = append(out, p)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), 16)]
}

func (g *Gossip) currentVerdict(id discovery.HostID) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.verdict[id]
}

// jitter spreads a period by a quarter to each side, so that hosts started
// together do not stay in step.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

// sleep waits; it reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
