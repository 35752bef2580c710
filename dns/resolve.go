package dns

import (
	"context"
	"fmt"
	"strings"

	miekg "github.com/miekg/dns"
)

// Scope is as whom a question is asked.
type Scope struct {
	// Client gives the device and the address that the question would come
	// from; its Networks are not read.
	Client Client
	// Host asks as this host does, which sees every network with HostAccess.
	Host bool
}

// Answer is a reply in the presentation format of RFC 1035, section 5.1.
type Answer struct {
	Rcode     string   // "NOERROR", "NXDOMAIN"
	Answer    []string // records: "web.	5	IN	A	192.0.2.7"
	Authority []string
	Values    []string // of the answer records the data alone: "192.0.2.7"
}

// Resolve answers as the listeners would, upstream resolvers included. qtype is
// a type's mnemonic in any case, "" is A; of an address PTR is asked in its
// reverse form. An error means that the question
// could not be asked, or ctx ended; any answer, SERVFAIL too, is no error.
func (s *Server) Resolve(ctx context.Context, name, qtype string, scope Scope) (Answer, error) {
	q, err := newQuery(name, qtype)
	if err != nil {
		return Answer{}, err
	}
	m := s.resolve(ctx, q, scope)
	if err := ctx.Err(); err != nil && m.Rcode == miekg.RcodeServerFailure {
		return Answer{}, err
	}
	a := Answer{Rcode: miekg.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		a.Answer = append(a.Answer, rr.String())
		a.Values = append(a.Values, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	for _, rr := range m.Ns {
		a.Authority = append(a.Authority, rr.String())
	}
	return a, nil
}

func newQuery(name, qtype string) (*query, error) {
	t, known := miekg.StringToType[strings.ToUpper(qtype)]
	if qtype == "" {
		t, known = miekg.TypeA, true
	}
	if !known {
		return nil, fmt.Errorf("unknown type %q", qtype)
	}
	if reverse, err := miekg.ReverseAddr(name); err == nil && t == miekg.TypePTR {
		name = reverse
	}
	if _, ok := miekg.IsDomainName(name); !ok || strings.ContainsAny(name, " \t\r\n") {
		return nil, fmt.Errorf("%q is no domain name", name)
	}
	return &query{msg: new(miekg.Msg).SetQuestion(miekg.Fqdn(name), t), size: maxTCP}, nil
}

func (s *Server) resolve(ctx context.Context, q *query, as Scope) *miekg.Msg {
	v := s.view.Load()
	scope := v.host
	if !as.Host {
		scope = s.scope(v, source{as.Client.Device, plain(as.Client.Addr)})
	}
	if scope == nil {
		return q.reply(miekg.RcodeRefused)
	}
	a := v.answer(q.question(), scope)
	if !a.forward {
		return q.render(a, v, s.ttl)
	}
	from := source{} // whoever is asked for, the host asks
	if !s.remote.inFlight.take(from) {
		s.stats.overload.Add(1)
		return unanswered(q, errOverload)
	}
	defer s.remote.inFlight.give(from)
	m, own := s.fetchMsg(ctx, &errand{q, direct, scope, v, a})
	if own != nil {
		return own
	}
	return relayed(q, m.unpack())
}
