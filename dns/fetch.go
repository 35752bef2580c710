package dns

import (
	"context"
	"errors"
	"time"

	miekg "github.com/miekg/dns"
)

// later runs work of from that waits for an upstream on a goroutine of its own,
// and reports false when too many are waiting already.
func (s *Server) later(from source, work func()) bool {
	if !s.remote.inFlight.take(from) {
		return false
	}
	s.tasks.Go(func() {
		defer s.remote.inFlight.give(from)
		work()
	})
	return true
}

// overloaded is the answer to a query that later would not take: at once, so
// that the client's resolver goes on to its next attempt.
func (s *Server) overloaded(q *errand, out []byte) []byte {
	s.stats.overload.Add(1)
	s.complain(errOverload)
	return s.replied(q.query, q.scope, s.pack(q.query, unanswered(q.query, errOverload), out))
}

// fetch takes a query upstream and returns the reply.
func (s *Server) fetch(ctx context.Context, q *errand) (reply []byte) {
	var failure error
	defer func() {
		if failure != nil {
			reply = s.pack(q.query, unanswered(q.query, failure), nil)
		}
	}()
	defer s.remote.panics.caught("hand on an answer", &failure)
	m, own := s.fetchMsg(ctx, q)
	if own != nil {
		return s.replied(q.query, q.scope, s.pack(q.query, own, nil))
	}
	return s.replied(q.query, q.scope, s.relay(q.query, m))
}

// fetchMsg returns what an upstream says, or what we say in its place.
func (s *Server) fetchMsg(ctx context.Context, q *errand) (theirs *message, own *miekg.Msg) {
	s.stats.forwarded.Add(1)
	if q.searched != "" {
		if m := s.searchedFor(ctx, q); m != nil {
			return m, s.completed(q, m)
		}
		return nil, q.render(q.answer, q.view, s.ttl)
	}
	m, err := s.remote.ask(ctx, q.query)
	if err != nil {
		s.stats.failed.Add(1)
		s.complain(err)
		return nil, unanswered(q.query, err)
	}
	if q.doubt && q.way != shared && m.verdict(q.question().qtype) == denial {
		return nil, q.render(q.view.missing(""), q.view, s.ttl)
	}
	return m, s.completed(q, m)
}

// relayed is an upstream's answer as q's: the sections as they came, the id,
// the question and EDNS of q.
func relayed(q *query, m *miekg.Msg) *miekg.Msg {
	r := q.reply(relayedRcode(m.Rcode))
	r.Authoritative, r.AuthenticatedData, r.Truncated = m.Authoritative, m.AuthenticatedData, m.Truncated
	r.Answer, r.Ns = m.Answer, m.Ns
	extra := make([]miekg.RR, 0, len(m.Extra)+1)
	for _, rr := range m.Extra {
		opt, isOPT := rr.(*miekg.OPT)
		if !isOPT {
			extra = append(extra, rr)
			continue
		}
		for _, o := range opt.Option {
			if ede, ok := o.(*miekg.EDNS0_EDE); ok {
				explain(r, ede.InfoCode, ede.ExtraText)
			}
		}
	}
	r.Extra = append(extra, r.Extra...)
	return r
}

// unanswered says why no upstream was of help.
func unanswered(q *query, err error) *miekg.Msg {
	m := q.reply(miekg.RcodeServerFailure)
	switch {
	case errors.Is(err, errOverload):
		explain(m, miekg.ExtendedErrorCodeOther, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNoUpstream):
		explain(m, miekg.ExtendedErrorCodeNoReachableAuthority, "no upstream resolver answered")
	default:
		explain(m, miekg.ExtendedErrorCodeNetworkError, "upstream resolvers cannot be reached")
	}
	return m
}

// complainEvery is how often failing upstreams are logged. Every query of every
// client fails with them; the rest is in Stats.
const complainEvery = time.Minute

func (s *Server) complain(err error) {
	now, last := time.Now().UnixNano(), s.complained.Load()
	if now-last < int64(complainEvery) || s.ctx.Err() != nil || !s.complained.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("queries not forwarded", "err", err, "failed", s.stats.failed.Load(), "overload", s.stats.overload.Load())
}
