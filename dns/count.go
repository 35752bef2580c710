package dns

import (
	"sync/atomic"

	miekg "github.com/miekg/dns"
)

// Stats count since the start.
type Stats struct {
	Queries   uint64 // received
	Dropped   uint64 // not answered at all
	Malformed uint64
	Refused   uint64 // from a source that is no client, or for what it may not ask
	Forwarded uint64 // asked upstream
	Overload  uint64 // not asked upstream, as too many others were in flight
	Failed    uint64 // asked upstream without an answer
	Truncated uint64 // answered in part
	Conns     uint64 // TCP connections taken
	ConnsOver uint64 // TCP connections closed at once, being over a limit
	Replies   []Replies
}

// Replies are how often the clients of one network were answered so.
type Replies struct {
	Network string // of the client; empty: the host itself, or nobody's
	Type    string // A, or other
	Rcode   string // NOERROR, or other
	Count   uint64
}

// counters count since New.
type counters struct {
	queries   atomic.Uint64
	dropped   atomic.Uint64 // too short, or a response
	malformed atomic.Uint64 // answered FORMERR, NOTIMP or BADVERS
	refused   atomic.Uint64
	forwarded atomic.Uint64
	overload  atomic.Uint64
	failed    atomic.Uint64
	truncated atomic.Uint64
	conns     atomic.Uint64
	connsOver atomic.Uint64
	replies   replies // of askers without a network
}

// The types and rcodes that are counted by their names. A client can send any number
// there is: all others are one.
var (
	countedTypes  = [...]uint16{0, miekg.TypeA, miekg.TypeAAAA, miekg.TypePTR, miekg.TypeSRV, miekg.TypeTXT, miekg.TypeMX, miekg.TypeHTTPS}
	countedRcodes = [...]int{-1, miekg.RcodeSuccess, miekg.RcodeNameError, miekg.RcodeServerFailure, miekg.RcodeRefused, miekg.RcodeFormatError, miekg.RcodeNotImplemented}
)

// replies are counted by type and rcode.
type replies [len(countedTypes)][len(countedRcodes)]atomic.Uint64

// add counts one.
func (r *replies) add(qtype uint16, rcode int) {
	t, c := 0, 0
	for i := 1; i < len(countedTypes); i++ {
		if countedTypes[i] == qtype {
			t = i
		}
	}
	for i := 1; i < len(countedRcodes); i++ {
		if countedRcodes[i] == rcode {
			c = i
		}
	}
	r[t][c].Add(1)
}

// list are those that are not zero.
func (r *replies) list(network string) (out []Replies) {
	for t := range r {
		for c := range r[t] {
			if n := r[t][c].Load(); n > 0 {
				out = append(out, Replies{network, typeName(t), rcodeName(c), n})
			}
		}
	}
	return out
}

func typeName(i int) string {
	if i == 0 {
		return "other"
	}
	return miekg.TypeToString[countedTypes[i]]
}

func rcodeName(i int) string {
	if i == 0 {
		return "other"
	}
	return miekg.RcodeToString[countedRcodes[i]]
}

// replied counts a reply to q, which is nil where the question could not be read. It
// goes to the network that the asker is on; that of a host's own question is none.
func (s *Server) replied(q *query, to *scope, reply []byte) []byte {
	if len(reply) < headerLen {
		return reply
	}
	r, qtype := &s.stats.replies, uint16(0)
	if n := to.own(); n != nil {
		r = n.replies
	}
	if q != nil && len(q.msg.Question) == 1 {
		qtype = q.msg.Question[0].Qtype
	}
	r.add(qtype, int(reply[3]&0xF))
	return reply
}

// own is the network that an endpoint asks from, of several the first; nil for the host
// itself.
func (s *scope) own() *index {
	if s == nil || !s.client || len(s.networks) == 0 {
		return nil
	}
	return s.networks[0]
}

// Stats returns the counters now.
func (s *Server) Stats() Stats {
	c := &s.stats
	out := Stats{Queries: c.queries.Load(), Dropped: c.dropped.Load(), Malformed: c.malformed.Load(), Refused: c.refused.Load(),
		Forwarded: c.forwarded.Load(), Overload: c.overload.Load(), Failed: c.failed.Load(), Truncated: c.truncated.Load(),
		Conns: c.conns.Load(), ConnsOver: c.connsOver.Load(), Replies: c.replies.list("")}
	for _, x := range s.view.Load().networks {
		out.Replies = append(out.Replies, x.replies.list(x.Name)...)
	}
	return out
}
