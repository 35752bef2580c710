package gossip

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/table"
)

const (
	atOnce     = 3 // hosts tried in one round
	backoffMin = 10 * time.Second
	backoffMax = 5 * time.Minute
	seedsEvery = time.Minute
	askedBy    = 8 // members that probe one missing host each second, on average

	findEvery   = time.Second            // between probes of missing members
	rejoinFirst = 200 * time.Millisecond // from the start until the first round
	rejoinMean  = 10 * time.Second       // between rounds
)

// rejoiner does what memberlist does not: it tries again to reach members that
// were lost.
type rejoiner struct {
	self     netip.AddrPort
	seeds    func(context.Context) ([]netip.AddrPort, error) // may be nil
	replica  *replica
	contacts *contacts
	log      *slog.Logger

	mu    sync.Mutex                  // guards given
	given map[netip.AddrPort]struct{} // addresses that Join was called with

	// The rest belongs to the goroutine of rejoin.
	pauses  map[netip.AddrPort]pause
	seeded  []netip.AddrPort // what seeds returned last
	askedAt time.Time        // when seeds was called
}

// pause is how long one address is left alone.
type pause struct {
	pace.Backoff
	until time.Time
}

// remember keeps addresses that were given to Join.
func (r *rejoiner) remember(addrs []netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range addrs {
		r.given[at] = struct{}{}
	}
}

func (r *rejoiner) givenAddrs() (out []netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := range r.given {
		out = append(out, at)
	}
	return out
}

// missing returns the known hosts that do not take part: from the table, and
// from the addresses given to Join where no member is.
func (r *rejoiner) missing() []candidate {
	var out []candidate
	taken := map[netip.AddrPort]bool{r.self: true}
	for _, p := range r.replica.peers() {
		alive := p.Seen && (p.Status == discovery.StatusAlive || p.Status == discovery.StatusSuspect)
		if alive {
			taken[p.Addr] = true
		} else if p.Addr.IsValid() {
			out = append(out, candidate{p.ID, p.Addr})
		}
	}
	for _, at := range r.givenAddrs() {
		if !taken[at] {
			out = append(out, candidate{at: at})
		}
	}
	return out
}

// alive returns the other members that gossip has seen alive.
func (r *rejoiner) alive() (out []table.Peer) {
	for _, p := range r.replica.peers() {
		if p.Seen && p.Status == discovery.StatusAlive {
			out = append(out, p)
		}
	}
	return out
}

// find probes missing members once a second with one datagram, so that a link
// that comes back is noticed within about that time. Of many members only a few
// probe each missing one.
func (r *rejoiner) find(ctx context.Context) {
	for pace.Sleep(ctx, pace.Jitter(findEvery)) {
		r.retryOwn()
		missing := r.missing()
		rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
		share := askedBy / float64(len(r.alive())+1)
		for _, c := range missing[:min(len(missing), atOnce)] {
			if !c.id.IsZero() && rand.Float64() < share {
				r.contacts.work.Go(func() {
					if r.contacts.answers(c.id, c.at) {
						r.contacts.tryMeet(c)
					}
				})
			}
		}
	}
}

// retryOwn meets a member while none holds a state of this start of ours,
// although we see some: after a change of our address they refuse us until
// they have given up the old one, and nothing else would tell them again.
func (r *rejoiner) retryOwn() {
	if r.replica.established() || r.replica.silent() {
		return
	}
	if alive := r.alive(); len(alive) > 0 {
		p := alive[rand.IntN(len(alive))]
		r.contacts.tryMeet(candidate{p.ID, p.Addr})
	}
}

// rejoin tries over TCP, with a growing pause for each address.
func (r *rejoiner) rejoin(ctx context.Context) {
	for wait := pace.Jitter(rejoinFirst); pace.Sleep(ctx, wait); wait = pace.Jitter(rejoinMean) {
		r.round(ctx)
	}
}

func (r *rejoiner) round(ctx context.Context) {
	due := r.due(ctx, time.Now())
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, c := range due[:min(len(due), atOnce)] {
		p, again := r.pauses[c.at]
		if !again {
			p.Backoff = pace.Backoff{First: backoffMin, Most: backoffMax}
		}
		p.until = time.Now().Add(p.Failed())
		r.pauses[c.at] = p
		r.contacts.tryMeet(c)
	}
}

// due returns the missing hosts whose pause is over, and forgets the pauses of
// those that are back.
func (r *rejoiner) due(ctx context.Context, now time.Time) (due []candidate) {
	missing := r.missing()
	missing = append(missing, r.fromSeeds(ctx, missing, now)...)
	pauses := map[netip.AddrPort]pause{}
	for _, c := range missing {
		if p, ok := r.pauses[c.at]; ok {
			pauses[c.at] = p
		}
		if !now.Before(r.pauses[c.at].until) {
			due = append(due, c)
		}
	}
	r.pauses = pauses
	return due
}

// fromSeeds adds the pool's hosts, while someone is missing or we are alone.
func (r *rejoiner) fromSeeds(ctx context.Context, missing []candidate, now time.Time) (out []candidate) {
	if r.seeds == nil || len(missing) == 0 && len(r.alive()) > 0 {
		return nil
	}
	if now.Sub(r.askedAt) >= seedsEvery {
		seeds, err := r.seeds(ctx)
		if err != nil {
			r.log.Debug("ask the pool for hosts", "err", err)
		} else {
			r.seeded = seeds
		}
		r.askedAt = now
	}
	known := r.knownAddrs()
	for _, at := range r.seeded {
		if !known[at] {
			out = append(out, candidate{at: at})
		}
	}
	return out
}

// knownAddrs returns the addresses of this host and of all hosts in the table,
// which need no second entry as a seed.
func (r *rejoiner) knownAddrs() map[netip.AddrPort]bool {
	known := map[netip.AddrPort]bool{r.self: true}
	for _, p := range r.replica.peers() {
		known[p.Addr] = true
	}
	for _, at := range r.givenAddrs() {
		known[at] = true
	}
	return known
}
