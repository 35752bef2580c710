package tunnel

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
)

// State is how far one proof is.
type State string

// The states. What was not tried yet is Unproven, as is the zero value.
const (
	Unproven State = "unproven"
	OK       State = "ok"
	Failing  State = "failing"
	Stale    State = "stale" // the newest proof is older than three periods
)

// Proof is what this host knows of the tunnel between it and one member.
type Proof struct {
	Peer   discovery.HostID
	Name   string
	Shares bool // a network, with this host
	Alive  bool // only those are proven

	Out, In, Size State
	Bulk          State         // many packets at once, as TCP sends them
	MTU           int           // bytes of the largest underlay packet that gets there; 0: not known
	Full          int           // bytes that should, by the devices of both
	Last          time.Duration // round trip
	Median, Worst time.Duration // of the last minute
	Requests      int           // of the last ten minutes
	Loss          float64       // of those that had no reply, in percent
	At            time.Time     // of the newest proof; zero: there is none
	Why, Hint     string        // what is wrong; empty: nothing
}

// State is the worst of the proofs. Size is none of its own where the MTU follows it.
func (p Proof) State() State {
	switch {
	case slices.Contains([]State{p.Out, p.In, p.Size, p.Bulk}, Failing):
		return Failing
	case slices.Contains([]State{p.Out, p.In}, Stale):
		return Stale
	case slices.Contains([]State{p.Out, p.In}, Unproven):
		return Unproven
	}
	return OK
}

// peer is a member that the tunnel is proven to.
type peer struct {
	host
	id     discovery.HostID
	full   int // bytes of the largest underlay packet that its devices carry; 0: not known
	shares bool
	alive  bool
	period time.Duration // between two proofs
}

// records keeps the newest proof of each member.
type records struct {
	mu  sync.Mutex // guards what follows
	all map[discovery.HostID]*record
}

// record is what is kept of one member.
type record struct {
	peer
	out, in, size State
	at            time.Time
	why, hint     string // of out and in
	sized         sized
	bulk          bulkState
	samples       []sample // oldest first
}

// sample is one request: zero: it had no reply.
type sample struct {
	at   time.Time
	trip time.Duration
}

const (
	mostSamples = 64
	lossOver    = 10 * time.Minute
	tripsOver   = time.Minute
	stalePasses = 3 // periods without a proof
)

func newRecords() *records { return &records{all: map[discovery.HostID]*record{}} }

// follow takes the members as they are now. One that has moved is proven anew.
func (r *records) follow(peers []peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := make(map[discovery.HostID]bool, len(peers))
	for _, p := range peers {
		there[p.id] = true
		if old := r.all[p.id]; old == nil || old.addr != p.addr {
			r.all[p.id] = &record{peer: p, out: Unproven, in: Unproven, size: Unproven, bulk: bulkState{state: Unproven}}
		} else {
			old.peer = p
		}
	}
	for id := range r.all {
		if !there[id] {
			delete(r.all, id)
		}
	}
}

// with changes a member's record, if there is one.
func (r *records) with(id discovery.HostID, change func(*record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.all[id]; rec != nil {
		change(rec)
	}
}

// proved notes that frames pass both ways. It returns what was wrong before.
func (r *records) proved(id discovery.HostID, now time.Time, trips []time.Duration) (before string) {
	r.with(id, func(rec *record) {
		if before = rec.why; before != "" { // the first of them met what is mended now
			trips = slices.DeleteFunc(trips, func(d time.Duration) bool { return d == 0 })
		}
		rec.sample(now, trips)
		rec.out, rec.in, rec.at, rec.why, rec.hint = OK, OK, now, "", ""
	})
	return before
}

// bulkOf is what is known of bulk to a member.
func (r *records) bulkOf(id discovery.HostID) (s bulkState) {
	r.with(id, func(rec *record) { s = rec.bulk })
	return s
}

// failed notes which way frames are lost. The other way is what it was: a request that
// did not get there says nothing of replies. It reports whether that is news.
func (r *records) failed(id discovery.HostID, now time.Time, f finding, why, hint string) (news bool) {
	r.with(id, func(rec *record) {
		news = rec.why != why
		rec.samples = nil // of a path that passes nothing there is no loss to be measured
		rec.at, rec.why, rec.hint = now, why, hint
		switch {
		case f.outward:
			rec.out, rec.in = Failing, known(rec.in)
		case f.inward:
			rec.out, rec.in = OK, Failing
		default:
			rec.out, rec.in = Failing, Failing
		}
	})
	return news
}

// known is a proof that the newest one says nothing of.
func known(s State) State {
	if s == Failing {
		return Unproven
	}
	return s
}

// lost notes requests without a reply that nothing else is known of.
func (r *records) lost(id discovery.HostID, now time.Time, trips []time.Duration) {
	r.with(id, func(rec *record) { rec.sample(now, trips) })
}

func (rec *record) sample(now time.Time, trips []time.Duration) {
	for _, d := range trips {
		rec.samples = append(rec.samples, sample{now, d})
	}
	old := 0
	for old < len(rec.samples) && now.Sub(rec.samples[old].at) > lossOver {
		old++
	}
	old = max(old, len(rec.samples)-mostSamples)
	rec.samples = slices.Delete(rec.samples, 0, old)
}

// proofs are the records as they are now, sorted by the members' names.
func (r *records) proofs(now time.Time) []Proof {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Proof, 0, len(r.all))
	for _, rec := range r.all {
		out = append(out, rec.proof(now))
	}
	slices.SortFunc(out, func(a, b Proof) int { return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Peer[:], b.Peer[:])) })
	return out
}

func (rec *record) proof(now time.Time) Proof {
	p := Proof{
		Peer: rec.id, Name: rec.name, Shares: rec.shares, Alive: rec.alive, Out: rec.out, In: rec.in, Size: rec.size, Bulk: rec.bulk.state,
		MTU: rec.sized.passes, Full: rec.full, At: rec.at, Why: rec.why, Hint: rec.hint,
	}
	switch {
	case p.Why != "":
	case rec.bulk.why != "":
		p.Why, p.Hint = rec.bulk.why, rec.bulk.hint
	default:
		p.Why, p.Hint = rec.sized.why, rec.sized.hint
	}
	if now.Sub(rec.at) > stalePasses*rec.period {
		p.Out, p.In = stale(p.Out), stale(p.In)
	}
	if rec.times(now, &p); p.Out == Failing || p.In == Failing {
		p.Loss = 100
	}
	return p
}

func stale(s State) State {
	if s == Unproven {
		return s
	}
	return Stale
}

// times fills in what the samples say.
func (rec *record) times(now time.Time, p *Proof) {
	var trips []time.Duration
	lost, all := 0, 0
	for _, s := range rec.samples {
		if now.Sub(s.at) > lossOver {
			continue
		}
		all++
		if s.trip == 0 {
			lost++
			continue
		}
		p.Last = s.trip
		if now.Sub(s.at) <= tripsOver {
			trips = append(trips, s.trip)
		}
	}
	if p.Requests = all; all > 0 {
		p.Loss = 100 * float64(lost) / float64(all)
	}
	if slices.Sort(trips); len(trips) > 0 {
		p.Median, p.Worst = trips[len(trips)/2], trips[len(trips)-1]
	}
}
