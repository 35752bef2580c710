package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
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
}

func newForwarder(ctx context.Context, r *resolvers, own func(netip.AddrPort) bool) *forwarder {
	return &forwarder{ctx: ctx, resolvers: r, own: own, inFlight: newQuota(maxOfSource, maxInFlight)}
}

// ask returns the upstream's answer to q, which others may hold as well: it
// must not be changed.
func (f *forwarder) ask(ctx context.Context, q *query) (*miekg.Msg, error) {
	out := outgoing(q)
	flight := f.flights.DoChan(flightKey(out), func() (any, error) { return f.race(out) })
	select {
	case r := <-flight:
		m, _ := r.Val.(*miekg.Msg)
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
func (f *forwarder) race(q *miekg.Msg) (*miekg.Msg, error) {
	servers := f.order(f.resolvers.current())
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	ctx, cancel := context.WithTimeout(f.ctx, answerWithin)
	r := &race{ctx: ctx, query: q, waiting: servers, results: make(chan result, len(servers))}
	defer r.tries.Wait()
	defer cancel()
	return r.run()
}

// order leaves our own addresses out and puts those that did not answer lately
// last.
func (f *forwarder) order(servers []*upstream) []*upstream {
	var good, bad []*upstream
	now := time.Now()
	for _, u := range servers {
		switch {
		case f.own(u.addr):
		case u.avoided(now):
			bad = append(bad, u)
		default:
			good = append(good, u)
		}
	}
	return append(good, bad...)
}

// race is one question on its way to several upstreams. At most one try of each
// is running.
type race struct {
	ctx     context.Context
	query   *miekg.Msg
	waiting []*upstream // to be asked next, in this order
	running []*upstream // in the order that they were asked
	results chan result
	tries   sync.WaitGroup
	refusal *miekg.Msg // SERVFAIL, REFUSED or the like: given if nobody knows better
	err     error
}

type result struct {
	from *upstream
	msg  *miekg.Msg
	err  error
}

func (r *race) run() (*miekg.Msg, error) {
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
	r.start()
	for len(r.running) > 0 {
		select {
		case got := <-r.results:
			if r.take(got) {
				return got.msg, nil
			}
			r.start()
			hedge.Reset(hedgeAfter)
		case <-hedge.C:
			r.start()
			hedge.Reset(hedgeAfter)
		case <-r.ctx.Done():
			return r.end()
		}
	}
	return r.end()
}

// start begins the next try, if an upstream is waiting for one.
func (r *race) start() {
	if len(r.waiting) == 0 {
		return
	}
	u := r.waiting[0]
	r.waiting, r.running = r.waiting[1:], append(r.running, u)
	r.tries.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, tryFor)
		defer cancel()
		m, err := u.ask(ctx, r.query)
		r.results <- result{u, m, err}
	})
}

// take reports whether got is the answer. An upstream that was silent waits for
// another turn; one that refused, by rcode or by ICMP, does not get one.
func (r *race) take(got result) bool {
	i := slices.Index(r.running, got.from)
	earlier := r.running[:i]
	r.running = slices.Delete(slices.Clone(r.running), i, i+1)
	switch {
	case errors.Is(got.err, context.DeadlineExceeded):
		got.from.failed()
		r.waiting = append(r.waiting, got.from)
		r.err = got.err
	case got.err != nil:
		got.from.failed()
		r.err = got.err
	case refuses(got.msg):
		r.refusal = got.msg
	default:
		got.from.answered()
		for _, u := range earlier {
			u.failed() // it had the longer time and lost
		}
		return true
	}
	return false
}

func (r *race) end() (*miekg.Msg, error) {
	if r.refusal != nil {
		return r.refusal, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	return nil, r.ctx.Err()
}

// refuses tells servers that cannot answer from those that say no.
func refuses(m *miekg.Msg) bool {
	switch m.Rcode {
	case miekg.RcodeServerFailure, miekg.RcodeRefused, miekg.RcodeNotImplemented, miekg.RcodeFormatError:
		return true
	}
	return m.Rcode > 0xF
}
