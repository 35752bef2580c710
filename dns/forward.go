package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// hedgeAfter starts the next upstream beside the one that is slow.
	hedgeAfter = 300 * time.Millisecond
	// tryFor is given to one upstream at a time, then it is asked anew.
	tryFor = time.Second
	// answerWithin is all the time there is: the client's own resolver gives
	// up after 5 s, and would blame us and ask again.
	answerWithin = 4500 * time.Millisecond
	// maxInFlight bounds the queries that wait for an upstream, maxOfSource
	// those of one client.
	maxInFlight = 2000
	maxOfSource = 500
)

var (
	errOverload   = errors.New("too many queries in flight")
	errNoUpstream = errors.New("no upstream resolver")
)

// forwarder asks upstreams. Equal questions that are in flight together are
// asked once; so is a question that comes back to us in a loop, which then
// waits for itself until the time is up and does not multiply.
type forwarder struct {
	ctx       context.Context // ends all flights
	resolvers *resolvers
	own       func(netip.AddrPort) bool // our own addresses: never asked
	inFlight  *quota
	flights   singleflight.Group
	panics    *panics
}

func newForwarder(ctx context.Context, r *resolvers, own func(netip.AddrPort) bool, log *slog.Logger) *forwarder {
	return &forwarder{ctx: ctx, resolvers: r, own: own, inFlight: newQuota(maxOfSource, maxInFlight), panics: newPanics(log)}
}

// ask returns the upstream's answer to q, which others may hold as well: it
// must not be changed.
func (f *forwarder) ask(ctx context.Context, q *query) (*message, error) {
	out := outgoing(q)
	flight := f.flights.DoChan(flightKey(out), func() (any, error) { return f.race(out) })
	select {
	case r := <-flight:
		m, _ := r.Val.(*message)
		return m, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// outgoing is q as it goes upstream: the same question and flags under an id
// of its own. EDNS is hop by hop (RFC 6891, section 6.1.1), so of q's options
// only DO goes on.
func outgoing(q *query) *miekg.Msg {
	m := &miekg.Msg{
		MsgHdr: miekg.MsgHdr{
			Id: miekg.Id(), RecursionDesired: q.msg.RecursionDesired,
			CheckingDisabled: q.msg.CheckingDisabled, AuthenticatedData: q.msg.AuthenticatedData,
		},
		Question: q.msg.Question,
	}
	if q.opt != nil {
		m.SetEdns0(ednsUDP, q.opt.Do())
	}
	return m
}

// flightKey is equal for queries that have the same answer.
func flightKey(m *miekg.Msg) string {
	asked, opt := m.Question[0], m.IsEdns0()
	return fmt.Sprint(strings.ToLower(asked.Name), asked.Qtype,
		m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData, opt != nil, opt != nil && opt.Do())
}

// race asks the upstreams one after the other and beside each other, until one
// answers or the time is up.
func (f *forwarder) race(q *miekg.Msg) (m *message, err error) {
	defer f.panics.caught("ask upstream", &err)
	now := time.Now()
	servers := order(f.servers(), now)
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	ctx, cancel := context.WithTimeout(f.ctx, answerWithin)
	defer cancel()
	r := &race{f: f, ctx: ctx, query: q, qtype: q.Question[0].Qtype, events: make(chan event, len(servers)*eventsOfOne)}
	for _, u := range servers {
		r.servers = append(r.servers, &contender{upstream: u})
	}
	r.denier = len(servers)
	for _, c := range r.servers {
		if c.avoided(now) && c.probe(now) {
			r.start(c)
		}
	}
	return r.run()
}

// order puts those that were silent lately last. Else it is the file's, which may say
// who knows best: first the resolver of a company, then one for the case that it is
// away.
func order(servers []*upstream, now time.Time) []*upstream {
	var good, bad []*upstream
	for _, u := range servers {
		if u.avoided(now) {
			bad = append(bad, u)
		} else {
			good = append(good, u)
		}
	}
	return append(good, bad...)
}

// race is one question on its way to several upstreams, each of which is asked by
// one goroutine. Records from any of them are the answer. That there are none is
// believed only of the first that can tell: a later one may not know the names
// that the earlier one is there for.
type race struct {
	f       *forwarder
	ctx     context.Context // ends with the race
	query   *miekg.Msg
	qtype   uint16
	servers []*contender // in order
	events  chan event

	denial  *message // of the earliest server that denied the name or the type
	denier  int      // its place, behind all others without one
	refusal *message // SERVFAIL, REFUSED or the like: given if nobody knows better
	err     error
}

// contender is an upstream in one race.
type contender struct {
	*upstream
	asked bool
	out   bool // it said what it has to say
	lost  int  // times that it was asked without an answer
}

// event is what happened to a contender: a reply, an error, or nothing in tryFor.
type event struct {
	from   *contender
	msg    *message
	err    error
	silent bool
}

// eventsOfOne is more than can happen to one contender in a race and the try that
// outlives it, so that nobody waits for a race that is over.
const eventsOfOne = int(answerWithin/tryFor) + 3

func (r *race) run() (*message, error) {
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
	r.next()
	for !r.decided() {
		select {
		case e := <-r.events:
			if r.take(e) {
				return e.msg, nil
			}
			if e.silent {
				continue // it is asked again already, and others since long
			}
			r.next()
		case <-hedge.C:
			r.next()
		case <-r.ctx.Done():
			return r.end()
		}
		hedge.Reset(hedgeAfter)
	}
	return r.end()
}

// next asks one more upstream, and the one after it if the first was silent to its
// last query. Behind one that denied the name nobody is asked.
func (r *race) next() {
	for _, c := range r.servers[:r.denier] {
		if c.asked {
			continue
		}
		r.start(c)
		if !c.doubtful() {
			return
		}
	}
}

func (r *race) start(c *contender) {
	c.asked = true
	go func() {
		m, err := r.f.askOne(r.ctx.Done(), c.upstream, r.query, func() { r.events <- event{from: c, silent: true} })
		r.events <- event{from: c, msg: m, err: err}
	}()
}

func (f *forwarder) askOne(done <-chan struct{}, u *upstream, q *miekg.Msg, lost func()) (m *message, err error) {
	defer f.panics.caught("ask a resolver", &err)
	return u.ask(f.ctx, done, q, lost)
}

// take reports whether e is the answer. One that refused, by rcode or by ICMP, is
// not asked again.
func (r *race) take(e event) bool {
	if e.silent {
		e.from.lost++
		return false
	}
	e.from.out = true
	if e.err != nil {
		r.err = e.err
		return false
	}
	switch e.msg.verdict(r.qtype) {
	case positive:
		return true
	case denial:
		if place := slices.Index(r.servers, e.from); place < r.denier {
			r.denier, r.denial = place, e.msg
		}
	case refusal:
		r.refusal = e.msg
	}
	return false
}

// decided reports whether nobody is left to be waited for: of those before the one
// that denied the name, each has said something else or was silent throughout.
func (r *race) decided() bool {
	for _, c := range r.servers[:r.denier] {
		if !c.out && (r.denial == nil || c.lost < tries) {
			return false
		}
	}
	return true
}

func (r *race) end() (*message, error) {
	switch {
	case r.denial != nil:
		return r.denial, nil
	case r.refusal != nil:
		return r.refusal, nil
	case r.err != nil:
		return nil, r.err
	}
	return nil, r.ctx.Err()
}
