package dns

import (
	miekg "github.com/miekg/dns"
)

// negativeTTL in seconds is how long a denial may be remembered (RFC 2308):
// not longer than a container takes to start.
const negativeTTL = 5

// reply is an empty answer to q: its id and question, as they were asked, so
// that a client that mixes case to be harder to spoof finds its own.
func (q *query) reply(rcode int) *miekg.Msg {
	m := &miekg.Msg{
		MsgHdr: miekg.MsgHdr{
			Id: q.msg.Id, Response: true, RecursionDesired: q.msg.RecursionDesired, RecursionAvailable: true,
			CheckingDisabled: q.msg.CheckingDisabled, Rcode: rcode,
		},
		Question: q.msg.Question,
	}
	if q.opt != nil {
		opt := &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT}}
		opt.SetUDPSize(ednsUDP)
		if q.opt.Do() {
			opt.SetDo()
		}
		m.Extra = []miekg.RR{opt}
	}
	return m
}

// explain adds an extended error, if the client speaks EDNS (RFC 8914).
func explain(m *miekg.Msg, code uint16, reason string) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &miekg.EDNS0_EDE{InfoCode: code, ExtraText: reason})
	}
}

// render turns an answer into a message.
func (q *query) render(a answer, v *view, ttl uint32) *miekg.Msg {
	return q.renderAs(q.msg.Question[0].Name, a, v, ttl)
}

// renderAs turns an answer about another name than the one that was asked for into a
// message.
func (q *query) renderAs(owner string, a answer, v *view, ttl uint32) *miekg.Msg {
	m := q.reply(a.rcode)
	m.Authoritative = a.rcode == miekg.RcodeSuccess || a.rcode == miekg.RcodeNameError
	if a.reason != "" {
		explain(m, a.ede, a.reason)
	}
	r := renderer{owner: owner, ttl: ttl, domain: v.domain}
	switch {
	case a.any:
		m.Answer = []miekg.RR{&miekg.HINFO{Hdr: r.header(r.owner, miekg.TypeHINFO), Cpu: "RFC8482"}}
	case a.soa:
		m.Answer = []miekg.RR{r.soa(a.zone, v.serial)}
	case a.zone != "":
		m.Ns = []miekg.RR{r.soa(a.zone, v.serial)}
	default:
		m.Answer = r.answer(a)
	}
	return m
}

// renderer makes the records of one answer.
type renderer struct {
	owner  string // the name as it was asked
	ttl    uint32
	domain string
}

func (r renderer) header(owner string, rrtype uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: owner, Rrtype: rrtype, Class: miekg.ClassINET, Ttl: r.ttl}
}

func (r renderer) answer(a answer) []miekg.RR {
	rrs := r.addresses(r.owner, a.addrs)
	for _, name := range a.names {
		rrs = append(rrs, &miekg.PTR{Hdr: r.header(r.owner, miekg.TypePTR), Ptr: r.full(name)})
	}
	return rrs
}

// addresses makes A and AAAA records.
func (r renderer) addresses(owner string, c choice) []miekg.RR {
	if len(c.all) == 0 {
		return nil
	}
	rrs := make([]miekg.RR, 0, c.size())
	for a := range c.inTurn {
		if a.Is4() {
			rrs = append(rrs, &miekg.A{Hdr: r.header(owner, miekg.TypeA), A: a.AsSlice()})
		} else {
			rrs = append(rrs, &miekg.AAAA{Hdr: r.header(owner, miekg.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return rrs
}

// full completes a name that is relative to our domain.
func (r renderer) full(name string) string { return miekg.Fqdn(name + "." + r.domain) }

func (r renderer) soa(zone string, serial uint32) miekg.RR {
	h := r.header(miekg.Fqdn(zone), miekg.TypeSOA)
	h.Ttl = negativeTTL
	return &miekg.SOA{
		Hdr: h, Ns: miekg.Fqdn(r.domain), Mbox: "hostmaster." + miekg.Fqdn(r.domain), Serial: serial,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}
}
