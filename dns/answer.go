package dns

import (
	"net/netip"
	"strings"

	miekg "github.com/miekg/dns"
)

// question is what is asked for, the class being IN.
type question struct {
	name  string // folded
	qtype uint16
}

// answer is what a question gets from the zone, before it has a wire form. Its
// slices belong to the view.
type answer struct {
	rcode   int
	forward bool // not ours: ask upstream. What is below, but doubt, is for the case that nobody there knows
	doubt   bool // it may yet turn out to be ours: no denial from upstream is believed
	// searched is the search domain that is believed to stand behind a name of ours.
	searched string
	addrs    choice
	names    []string // PTR targets, without the domain
	zone     string   // owner of the SOA record, "" where none is given
	soa      bool     // the SOA record was asked for
	any      bool     // ANY was asked for (RFC 8482)
	ede      uint16   // extended error (RFC 8914), with reason
	reason   string
}

// answer is the one place where a question becomes an answer. It depends on
// its arguments alone.
func (v *view) answer(q question, s *scope) answer {
	if q.qtype == miekg.TypeAXFR || q.qtype == miekg.TypeIXFR {
		return answer{rcode: miekg.RcodeRefused}
	}
	if rest, ours := cut(q.name, v.domain); ours {
		return v.inDomain(rest, q, s)
	}
	if p, reverse := reversePrefix(q.name); reverse {
		return v.reverse(p, q, s)
	}
	if h, ok := v.bare(q.name, s); ok {
		return found(h, q, q.name, s) // its own zone: the SOA record has to enclose it
	}
	return v.foreign(q.name, s)
}

// inDomain answers below our domain; nothing of it is ever asked upstream.
func (v *view) inDomain(rest string, q question, s *scope) answer {
	if rest == "" {
		return answer{zone: v.domain, soa: q.qtype == miekg.TypeSOA, any: q.qtype == miekg.TypeANY}
	}
	if h, ok := v.qualified(rest, s); ok {
		return found(h, q, v.domain, s)
	}
	return v.missing(v.domain)
}

// qualified finds what stands before the domain: "host", a network, a name in
// one of the two.
func (v *view) qualified(rest string, s *scope) (hit, bool) {
	name, last := cutLast(rest)
	if last == "host" {
		return v.member(name, s)
	}
	x := v.byName[last]
	if !s.sees(x) {
		return hit{}, false
	}
	if name == "" {
		return hit{}, true
	}
	return x.lookup(name)
}

// member finds <name>.host; host itself exists and holds nothing. An endpoint is
// given the host's address on a network that both are on: it may have no way to
// the underlay.
func (v *view) member(name string, s *scope) (hit, bool) {
	addrs, ok := v.hosts[name]
	if s.client {
		for _, x := range s.networks {
			if on := hostAddrsOn(x.Network, name); len(on) > 0 {
				addrs, ok = on, true
				break
			}
		}
	}
	if !ok {
		return hit{}, name == ""
	}
	h := addresses([]Name{{Addrs: addrs}})
	h.answers = -1
	return h, true
}

// hostAddrsOn are the addresses that a host has on a network.
func hostAddrsOn(n Network, name string) (addrs []netip.Addr) {
	for _, h := range n.Hosts {
		if fold(h.Name) == name {
			addrs = append(addrs, h.Addr)
		}
	}
	return addrs
}

// bare finds a name that was asked for without the domain. Only what holds
// addresses is found: the tail of a dotted name, or of a host's, is somebody else's
// until the domain stands behind it.
func (v *view) bare(name string, s *scope) (hit, bool) {
	first, _ := cutLast(name)
	if first == "" || strings.HasPrefix(name, allPrefix) {
		if h, ok := s.find(name); ok && !h.empty() {
			return h, true
		}
	}
	if first == "" {
		return hit{}, false
	}
	h, ok := v.qualified(name, s)
	return h, ok && !h.empty()
}

// foreign answers for names that are not ours. One that ends with the name of a
// network is among them: a network may be called as a top level domain is, and must
// hide nothing of it. Who is on internal networks only has no other world: for them
// what their network does not know does not exist.
func (v *view) foreign(name string, s *scope) answer {
	first, last := cutLast(name)
	if first == "" && name != "" && !v.forward {
		return v.missing("")
	}
	below := first != "" && s.sees(v.byName[last])
	switch {
	case s.confined && below:
		return v.missing(last)
	case s.confined:
		return answer{rcode: miekg.RcodeRefused, ede: miekg.ExtendedErrorCodeNotAuthoritative, reason: "internal network"}
	}
	return answer{forward: true, doubt: below && !v.complete}
}

// reverse answers for addresses of the networks that the asker sees. To others such
// an address is like any: they may have a server that knows another one of it.
func (v *view) reverse(p netip.Prefix, q question, s *scope) answer {
	var subnet netip.Prefix
	for _, x := range v.networks {
		in, ok := x.holds(p)
		if !ok || !s.sees(x) {
			continue
		}
		subnet = in
		if !p.IsSingleIP() {
			return answer{zone: reverseZone(q.name, in)}
		}
		if names := x.addrs.get(p.Addr()); len(names) > 0 {
			return pointer(names[0]+"."+x.key, reverseZone(q.name, in), q)
		}
	}
	if !subnet.IsValid() {
		return v.foreign(q.name, s)
	}
	return v.missing(reverseZone(q.name, subnet))
}

// pointer answers for an address that has a name: one, as many programs take
// the first PTR record for the only one.
func pointer(name, zone string, q question) answer {
	switch q.qtype {
	case miekg.TypePTR:
		return answer{names: []string{name}}
	case miekg.TypeANY:
		return answer{any: true}
	}
	return answer{zone: zone}
}

// found picks the records of the asked type. A name without them is NODATA and
// never NXDOMAIN, which musl takes for "no such host" even where the other
// address family has an answer.
func found(h hit, q question, zone string, s *scope) answer {
	var got []netip.Addr
	here := 0
	switch q.qtype {
	case miekg.TypeA:
		got, here = h.v4, h.here4
	case miekg.TypeAAAA:
		got, here = h.v6, h.here6
	case miekg.TypeANY:
		return answer{any: true}
	}
	if len(got) == 0 {
		return answer{zone: zone}
	}
	return answer{addrs: choice{all: got, here: here, most: h.answers, asker: s.addr}}
}

// missing denies a name. While the table is incomplete that would be a guess:
// a resolver asks again after SERVFAIL, and remembers an NXDOMAIN.
func (v *view) missing(zone string) answer {
	if !v.complete {
		return answer{rcode: miekg.RcodeServerFailure, ede: miekg.ExtendedErrorCodeNotReady, reason: "table not complete"}
	}
	return answer{rcode: miekg.RcodeNameError, zone: zone}
}
