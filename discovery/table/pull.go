package table

import (
	"bytes"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	pullRetry    = 150 * time.Millisecond // for the answer to a pull, twice as long each time
	pullPatience = time.Second            // at most
	pullTries    = 20                     // then a later digest starts over
	mostWants    = 4096                   // at once
	bulk         = 16                     // wants above which owners are not asked one by one
)

// puller asks for the states that other members have shown and this one lacks.
type puller struct {
	*shared
	wants map[short]*want
}

// want is a state that is lacked.
type want struct {
	at    time.Time // when to ask (again)
	shown Version
	by    discovery.HostID // who showed it; zero: the owner
	whole bool             // the held state contradicts its version
	tries int
}

// want notes that a newer state of the owner exists, to be pulled at a time.
func (p *puller) want(at time.Time, owner short, v Version, by discovery.HostID) {
	if p.t.forgotten.hasShort(owner) {
		return
	}
	if o := p.t.owners.lookup(owner); o != nil && (o.at.Compare(v) >= 0 || p.t.limit.pauses(o)) {
		return
	}
	w, ok := p.wants[owner]
	if !ok && len(p.wants) >= mostWants {
		return // a digest names them again
	}
	if !ok {
		p.wants[owner] = &want{at: at, shown: v, by: by}
		return
	}
	if v.Compare(w.shown) >= 0 {
		w.shown = v
		if !by.IsZero() {
			w.by = by // the newest witness is the likeliest to answer
		}
	}
	if w.tries == 0 && at.Before(w.at) {
		w.at = at
	}
}

// wantWhole notes that the held state of an owner contradicts its version.
func (p *puller) wantWhole(now time.Time, owner short, v Version) {
	if w := p.wants[owner]; w == nil && len(p.wants) < mostWants || w != nil && !w.whole {
		p.wants[owner] = &want{at: now, shown: v, whole: true}
	}
}

// wantsNewer reports whether a newer state of the owner than the held one is
// wanted.
func (p *puller) wantsNewer(o *owner) bool {
	w := p.wants[shortOf(o.id)]
	return w != nil && w.shown.Compare(o.at) > 0
}

// retry asks at once for what is wanted of the owner, with all tries anew.
func (p *puller) retry(now time.Time, owner short) {
	if w := p.wants[owner]; w != nil {
		w.at, w.tries = now, 0
	}
}

// fulfil notes that a state of the owner was received.
func (p *puller) fulfil(owner short, v Version) {
	if w := p.wants[owner]; w != nil && w.shown.Compare(v) <= 0 {
		delete(p.wants, owner)
	}
}

// pullDue sends one pull to each member that is to be asked.
func (p *puller) pullDue(now time.Time) {
	due := p.due(now)
	if len(due) == 0 {
		return
	}
	alive := p.alive()
	p.rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	asks := map[discovery.HostID][]pullEntry{}
	for _, s := range due {
		w := p.wants[s]
		to, ok := p.source(s, w, alive, len(due) > bulk)
		if w.tries++; w.tries > pullTries {
			delete(p.wants, s)
		}
		w.at = now.Add(p.slow * min(pullRetry<<(w.tries-1), pullPatience))
		if ok {
			e := pullEntry{Owner: s}
			if o := p.t.owners.lookup(s); o != nil && !w.whole {
				e.Have = o.at
			}
			asks[to] = append(asks[to], e)
		}
	}
	for _, to := range sortedIDs(asks) {
		p.stats.Pulls++
		p.send(to, true, pull{From: p.t.own.id, Owners: asks[to]})
	}
}

// due returns the wants to ask for now, sorted, and drops those fulfilled.
func (p *puller) due(now time.Time) (due []short) {
	for s, w := range p.wants {
		if o := p.t.owners.lookup(s); o != nil && !w.whole && o.at.Compare(w.shown) >= 0 {
			delete(p.wants, s)
		} else if !now.Before(w.at) {
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(a, b short) int { return bytes.Compare(a[:], b[:]) })
	return due
}

// source picks the member to ask: first the owner, which answers with the
// fewest bytes, then who showed the state, then anyone. A host that lacks many
// states asks three members for a share each instead of every owner.
func (p *puller) source(s short, w *want, alive []discovery.HostID, many bool) (discovery.HostID, bool) {
	if len(alive) == 0 {
		return discovery.HostID{}, false
	}
	owner, known := p.t.owners.byShort[s]
	switch {
	case w.tries == 0 && many:
		if i := int(s[1]) % 3; i > 0 {
			return alive[i%len(alive)], true
		}
	case w.tries%2 == 0 && known && p.isAlive(owner):
		return owner, true
	}
	if p.isAlive(w.by) {
		return w.by, true
	}
	return alive[w.tries%len(alive)], true
}
