package table

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	gapWait      = 50 * time.Millisecond  // for a reordered delta to arrive
	pullRetry    = 150 * time.Millisecond // for the answer to a pull, twice as long each time
	pullPatience = time.Second            // at most
	pullTries    = 20                     // then a later digest starts over
	bulk         = 16                     // wants above which owners are not asked one by one
	settledTime  = 30 * time.Second
	spread       = 2    // members that a repaired host compares itself with
	listLimit    = 1000 // owners above which a digest begins with bucket hashes

	askAfter  = time.Second // from the start until owners are asked themselves
	askAgain  = time.Second
	askAtOnce = 4           // in one tick
	patience  = time.Minute // after which any member's word counts
)

// want is a state that another member has shown and this one lacks.
type want struct {
	at    time.Time // when to ask (again)
	shown Version
	by    discovery.HostID // who showed it; zero: the owner
	whole bool             // the held state contradicts its version
	tries int
}

// wantVersion notes that a newer state of the owner exists, to be pulled at a
// time.
func (x *Exchange) wantVersion(at time.Time, owner Short, v Version, by discovery.HostID) {
	if _, refused := x.goneName[owner]; refused {
		return
	}
	if o := x.lookup(owner); o != nil && o.at.Compare(v) >= 0 {
		return
	}
	w, ok := x.wants[owner]
	if !ok {
		x.wants[owner] = &want{at: at, shown: v, by: by}
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
func (x *Exchange) wantWhole(now time.Time, owner Short, v Version) {
	if w := x.wants[owner]; w == nil || !w.whole {
		x.wants[owner] = &want{at: now, shown: v, whole: true}
	}
}

// Tick does what time brings: it hides names, and asks for what is wanted. It
// is to be called every few ten milliseconds.
func (x *Exchange) Tick(now time.Time) {
	x.Table.Tick(now)
	maps.DeleteFunc(x.settled, func(_ [2]uint64, at time.Time) bool { return now.Sub(at) > settledTime })
	if !x.Silent() {
		x.pullDue(now)
		x.askOwners(now)
		x.rumour(now)
	}
}

// rumour compares tables with a member at random after this one was repaired:
// what one host missed, others have missed too, and the next probe that shows
// it may be as many seconds away as there are members.
func (x *Exchange) rumour(now time.Time) {
	if x.rumours == 0 || now.Before(x.nextDigest) {
		return
	}
	if alive := x.alive(); len(alive) > 0 {
		x.rumours--
		x.nextDigest = now.Add(x.digestPeriod())
		x.Compare(alive[x.rand.IntN(len(alive))])
	}
}

// pullDue sends one Pull to each member that is to be asked.
func (x *Exchange) pullDue(now time.Time) {
	due := x.due(now)
	if len(due) == 0 {
		return
	}
	alive := x.alive()
	x.rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	asks := map[discovery.HostID][]PullEntry{}
	for _, s := range due {
		w := x.wants[s]
		to, ok := x.source(s, w, alive, len(due) > bulk)
		if w.tries++; w.tries > pullTries {
			delete(x.wants, s)
		}
		w.at = now.Add(x.slow * min(pullRetry<<(w.tries-1), pullPatience))
		if ok {
			e := PullEntry{Owner: s}
			if o := x.lookup(s); o != nil && !w.whole {
				e.Have = o.at
			}
			asks[to] = append(asks[to], e)
		}
	}
	for _, to := range sortedIDs(asks) {
		x.Stats.Pulls++
		x.send(to, true, Pull{From: x.self, Owners: asks[to]})
	}
}

// due returns the wants to ask for now, sorted, and drops those fulfilled.
func (x *Exchange) due(now time.Time) (due []Short) {
	for s, w := range x.wants {
		if o := x.lookup(s); o != nil && !w.whole && o.at.Compare(w.shown) >= 0 {
			delete(x.wants, s)
		} else if !now.Before(w.at) {
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(a, b Short) int { return bytes.Compare(a[:], b[:]) })
	return due
}

// source picks the member to ask: first the owner, which answers with the
// fewest bytes, then who showed the state, then anyone. A host that lacks many
// states asks three members for a share each instead of every owner.
func (x *Exchange) source(s Short, w *want, alive []discovery.HostID, many bool) (discovery.HostID, bool) {
	if len(alive) == 0 {
		return discovery.HostID{}, false
	}
	owner, known := x.byShort[s]
	switch {
	case w.tries == 0 && many:
		if i := int(s[1]) % 3; i > 0 {
			return alive[i%len(alive)], true
		}
	case w.tries%2 == 0 && known && x.isAlive(owner):
		return owner, true
	}
	if x.isAlive(w.by) {
		return w.by, true
	}
	return alive[w.tries%len(alive)], true
}

// Acked compares the payload of a probe's answer with the table.
func (x *Exchange) Acked(now time.Time, from discovery.HostID, payload []byte) error {
	a, err := ParseAck(payload)
	if err != nil {
		x.Stats.Malformed++
		return err
	}
	o := x.owners[from]
	if o == nil || from == x.self || x.Silent() {
		return nil
	}
	if a.Root == x.root {
		x.show(from, x.OwnVersion())
		x.Table.confirm(o)
		x.vouchAll(now, false)
		return nil
	}
	switch c := a.At.Compare(o.at); {
	case c > 0:
		x.wantVersion(now, ShortOf(from), a.At, from)
	case c < 0:
		// The owner has lost its memory: being asked for what is newer than
		// what it has, it raises its incarnation.
		x.send(from, true, Pull{From: x.self, Owners: []PullEntry{{ShortOf(from), o.at}}})
	default:
		x.compare(now, from, a.Root)
	}
	return nil
}

// compare starts an exchange of digests, unless one was started lately or these
// two tables were found to differ in nothing that can be repaired.
func (x *Exchange) compare(now time.Time, with discovery.HostID, root uint64) {
	if _, ok := x.settled[[2]uint64{x.root, root}]; ok || now.Before(x.nextDigest) {
		return
	}
	x.nextDigest = now.Add(x.digestPeriod())
	x.Compare(with)
}

// digestPeriod bounds the digests' share of the traffic: 17 bytes per owner.
func (x *Exchange) digestPeriod() time.Duration {
	n := 0
	for _, o := range x.owners {
		if o.status != discovery.StatusLeft { // who has left asks nobody
			n++
		}
	}
	switch {
	case n <= 32:
		return x.slow * 500 * time.Millisecond
	case n <= 100:
		return x.slow * 2 * time.Second
	case n <= 1000:
		return x.slow * 5 * time.Second
	}
	return x.slow * 10 * time.Second
}

// Compare asks the member for its digest, by sending the own.
func (x *Exchange) Compare(with discovery.HostID) {
	x.Stats.Digests++
	d := x.Digest()
	d.Want = true
	x.send(with, true, d)
}

// Digest returns what the table holds, in bucket hashes when it is much.
func (x *Exchange) Digest() Digest {
	d := Digest{From: x.self, Complete: x.complete, Root: x.root}
	if len(x.owners) > listLimit {
		d.Buckets = x.bucketHashes()
	} else {
		d.Entries = x.digest(d.covers)
	}
	return d
}

func (x *Exchange) receiveDigest(now time.Time, d Digest) {
	if d.Root == x.root {
		x.show(d.From, x.OwnVersion())
		x.vouchAll(now, d.Complete)
	}
	if d.Buckets != nil {
		x.receiveBuckets(now, d)
		return
	}
	theirs := make(map[Short]bool, len(d.Entries))
	differ := false
	for _, e := range d.Entries {
		theirs[e.Owner] = true
		differ = x.compareEntry(now, d, e) || differ
	}
	for id, o := range x.owners {
		s := ShortOf(id)
		differ = differ || !o.at.IsZero() && d.covers(s) && !theirs[s]
	}
	if !differ && d.Scope == nil && d.Root != x.root {
		x.settled[[2]uint64{x.root, d.Root}] = now
	}
	if d.Want {
		x.send(d.From, true, Digest{From: x.self, Complete: x.complete, Root: x.root, Scope: d.Scope, Entries: x.digest(d.covers)})
	}
}

// compareEntry reports whether the entry differs from what is held, in either
// direction, and wants what is newer.
func (x *Exchange) compareEntry(now time.Time, d Digest, e DigestEntry) bool {
	from := d.From
	if _, refused := x.goneName[e.Owner]; refused {
		return false
	}
	o := x.lookup(e.Owner)
	if o == x.own {
		if e.At == o.at && e.CRC != o.crc {
			x.seen(from, Version{e.At.Inc, e.At.Ver + 1}) // of a life that is forgotten
		} else {
			x.seen(from, e.At)
		}
		return e.At != o.at
	}
	switch {
	case o == nil || e.At.Compare(o.at) > 0:
		x.wantVersion(now, e.Owner, e.At, from)
	case e.At == o.at && e.CRC == o.crc:
		x.vouch(now, o, from, d.Complete)
		return false
	case e.At == o.at && from == o.id:
		x.wantWhole(now, e.Owner, e.At)
	}
	return true
}

// receiveBuckets answers hashes with the entries of the buckets that differ.
func (x *Exchange) receiveBuckets(now time.Time, d Digest) {
	scope, differ := make([]byte, buckets/8), false
	for i, h := range x.bucketHashes() {
		if h != d.Buckets[i] {
			scope[i/8] |= 1 << (i % 8)
			differ = true
		}
	}
	if !differ && !d.Want {
		return
	}
	reply := Digest{From: x.self, Want: differ, Complete: x.complete, Root: x.root, Scope: scope}
	reply.Entries = x.digest(reply.covers)
	x.send(d.From, true, reply)
}

// receivePull answers with the states that the member lacks.
func (x *Exchange) receivePull(p Pull) {
	var secs []Section
	for _, e := range p.Owners {
		o := x.lookup(e.Owner)
		if o == nil {
			continue
		}
		if o == x.own {
			x.seen(p.From, e.Have)
		}
		secs = append(secs, x.sections(o, e.Have)...)
	}
	x.sendSections(p.From, secs)
}

// sendSections packs sections into as few messages as their limit allows.
func (x *Exchange) sendSections(to discovery.HostID, secs []Section) {
	for len(secs) > 0 {
		n, size := 1, opsSize(secs[0].Ops)
		for n < len(secs) && size+opsSize(secs[n].Ops)+64 < MaxState*3/4 {
			size += opsSize(secs[n].Ops) + 64
			n++
		}
		x.send(to, true, State{From: x.self, Complete: x.complete, Sections: secs[:n]})
		secs = secs[n:]
	}
}

// vouch notes that a member showed the state of an owner that is held. Only the
// owner's word counts, or that of a member whose own view is complete: two hosts
// that were started again may remember the same old state of a third, and would
// sweep each other into deleting the entries of what came after it.
//
// After a minute everybody's word counts: who is alive and heard of by others alone
// may never be reached.
func (x *Exchange) vouch(now time.Time, o *owner, from discovery.HostID, complete bool) {
	w := x.wants[ShortOf(o.id)]
	if from == o.id || (complete || now.Sub(x.started) > patience) && (w == nil || w.shown.Compare(o.at) <= 0) {
		x.confirm(o)
	}
}

// vouchAll is vouch of a member whose whole table is ours.
func (x *Exchange) vouchAll(now time.Time, complete bool) {
	if x.complete {
		return
	}
	for _, o := range x.owners {
		x.vouch(now, o, discovery.HostID{}, complete)
	}
}

// askOwners asks those whose state is a memory whether it still is so, a few at a
// time: when all hosts start at once there is no member yet whose word counts.
func (x *Exchange) askOwners(now time.Time) {
	if x.complete || x.joining || now.Sub(x.started) < askAfter {
		return
	}
	alive := x.alive()
	x.rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	asked := 0
	for _, id := range alive {
		o := x.owners[id]
		if o.pulled || o.at.IsZero() || now.Sub(o.askedAt) < askAgain {
			continue
		}
		o.askedAt = now
		x.send(id, true, Pull{From: x.self, Owners: []PullEntry{{ShortOf(id), o.at}}})
		if asked++; asked == askAtOnce {
			return
		}
	}
}

func (x *Exchange) receiveState(now time.Time, s State) {
	for _, sec := range s.Sections {
		owner := ShortOf(sec.Owner)
		switch x.applySection(sec) {
		case gap:
			x.wantWhole(now, owner, sec.At)
			continue
		case ignored:
			if sec.Parts > 1 {
				continue
			}
		case applied:
			x.rumours = spread
		}
		if w := x.wants[owner]; w != nil && w.shown.Compare(sec.At) <= 0 {
			delete(x.wants, owner)
		}
		if o := x.lookup(owner); o != nil {
			x.vouch(now, o, s.From, s.Complete)
			o.asked = o.asked || s.From == sec.Owner
			x.answerSeen(o)
		}
	}
}
