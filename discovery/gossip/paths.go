package gossip

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

const (
	pathPeriod  = 2 * time.Second // between two looks
	pathSilence = 6 * time.Second // without an answer, before a member is asked directly
	pathTries   = 3
	pathLooks   = 2           // in a row without an answer, before a loss is said
	pathQuick   = time.Second // a stream's answer that shows that a member is not busy
	pathSample  = 8           // members asked in one look
	pathSources = 4096
)

// Loss says that the datagrams of the gossip port are lost between this host and a
// member which is alive: its streams pass.
type Loss struct {
	Member discovery.HostID
	Heard  bool // its datagrams arrive here, so those of this host do not arrive there
	All    bool // no member of several answers datagrams of this host: it is this host's own end
}

// paths watches whether datagrams pass between this host and the members. The
// failure detector does not tell: it takes a member that only streams reach for
// alive, and changes then travel by the comparisons of tables alone.
type paths struct {
	interval time.Duration // between two probes of the failure detector
	quick    time.Duration // as pathQuick
	members  func() []discovery.Member
	ask      func(id discovery.HostID, at netip.AddrPort) bool // by datagram
	stream   func(id discovery.HostID, at netip.AddrPort) bool // whether it answers a stream

	mu       sync.Mutex
	heard    map[netip.Addr]time.Time // a datagram came from there
	answered map[discovery.HostID]time.Time
	doubts   map[discovery.HostID]int // looks in a row in which a member did not answer
	losses   []Loss
}

func newPaths(interval time.Duration) *paths {
	return &paths{interval: interval, quick: pathQuick, heard: map[netip.Addr]time.Time{}, answered: map[discovery.HostID]time.Time{}, doubts: map[discovery.HostID]int{}}
}

// arrived notes a datagram. Its source may be forged, so sources are bounded.
func (p *paths) arrived(from netip.Addr, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.heard[from]; known || len(p.heard) < pathSources {
		p.heard[from] = now
	}
}

// heardOf reports whether a datagram came from there.
func (p *paths) heardOf(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.heard[a]
	return ok
}

// passed notes that a member answered a datagram of this host.
func (p *paths) passed(id discovery.HostID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered[id] = now
	delete(p.doubts, id)
	p.losses = slices.DeleteFunc(slices.Clone(p.losses), func(l Loss) bool { return l.Member == id || l.All })
}

// Losses returns the members between which and this host datagrams are lost, by id.
func (g *Gossip) Losses() []Loss {
	g.paths.mu.Lock()
	defer g.paths.mu.Unlock()
	return g.paths.losses
}

func (p *paths) run(ctx context.Context) {
	for pace.Sleep(ctx, pathPeriod) {
		p.look(time.Now())
	}
}

// look asks members that have been silent directly, and notes which of them do not
// answer. A member whose agent gets no time of its processor leaves datagrams without an
// answer, too: so it must be silent in two looks, and answer a stream at once.
func (p *paths) look(now time.Time) {
	silent, all := p.silent(now)
	var lost []discovery.Member
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range silent {
		asked.Go(func() {
			for range pathTries {
				if p.ask(m.ID, m.Gossip) {
					p.passed(m.ID, time.Now())
					return
				}
			}
			if p.confirmed(m) {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, m)
			}
		})
	}
	asked.Wait()
	p.note(lost, all && len(lost) > 1 && len(lost) == len(silent))
}

// confirmed reports whether it is the datagrams that are lost, of a member that did not
// answer them. Once that was said the datagrams alone end it.
func (p *paths) confirmed(m discovery.Member) bool {
	p.mu.Lock()
	p.doubts[m.ID]++
	said := slices.ContainsFunc(p.losses, func(l Loss) bool { return l.Member == m.ID })
	enough := p.doubts[m.ID] >= pathLooks
	p.mu.Unlock()
	if said || !enough {
		return said
	}
	began := time.Now()
	return p.stream(m.ID, m.Gossip) && time.Since(began) < p.quick
}

// silent returns members whose last answer is too long ago, at most a few, and
// whether that is so of all members. With many members the failure detector asks
// each of them seldom; that none of all answers shows soon.
func (p *paths) silent(now time.Time) (silent []discovery.Member, all bool) {
	alive := slices.DeleteFunc(p.members(), func(m discovery.Member) bool { return m.Status != discovery.StatusAlive || !m.Gossip.IsValid() })
	limit := p.limit(len(alive))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(alive, now.Add(-limit))
	var last time.Time
	for _, m := range alive {
		at, known := p.answered[m.ID]
		if !known { // it has just come
			at = now
			p.answered[m.ID] = at
		}
		if at.After(last) {
			last = at
		}
		if now.Sub(at) > limit {
			silent = append(silent, m)
		}
	}
	all = len(alive) > 0 && now.Sub(last) > pathSilence
	if all {
		silent = alive
	}
	rand.Shuffle(len(silent), func(i, j int) { silent[i], silent[j] = silent[j], silent[i] })
	return silent[:min(len(silent), pathSample)], all
}

// limit is how long a member of a cluster may be silent: it is asked once in a round
// over all members.
func (p *paths) limit(members int) time.Duration {
	return max(pathSilence, 2*time.Duration(members+1)*p.interval)
}

// forget drops what is known of hosts that are no members, and of old datagrams.
func (p *paths) forget(alive []discovery.Member, before time.Time) {
	members := make(map[discovery.HostID]bool, len(alive))
	for _, m := range alive {
		members[m.ID] = true
	}
	for id := range p.answered {
		if !members[id] {
			delete(p.answered, id)
			delete(p.doubts, id)
		}
	}
	for a, at := range p.heard {
		if at.Before(before) {
			delete(p.heard, a)
		}
	}
}

// note keeps the outcome of a look.
func (p *paths) note(lost []discovery.Member, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	losses := make([]Loss, 0, len(lost))
	for _, m := range lost {
		_, heard := p.heard[m.Gossip.Addr()]
		losses = append(losses, Loss{Member: m.ID, Heard: heard, All: all})
	}
	slices.SortFunc(losses, func(a, b Loss) int { return cmp.Compare(a.Member.String(), b.Member.String()) })
	p.losses = losses
}
