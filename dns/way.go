package dns

import (
	"net/netip"

	miekg "github.com/miekg/dns"
)

// answerAt is answer for a question that came by a way. What an engine's
// resolver asks differs from what a container's own would.
func (v *view) answerAt(w way, q question, s *scope) answer {
	if w == direct {
		return v.answer(q, s)
	}
	if zone, ok := v.appended(q.name, s); ok {
		return answer{rcode: miekg.RcodeNameError, zone: zone}
	}
	a := v.answer(q, s)
	if w == shared && (a.rcode == miekg.RcodeServerFailure || a.rcode == miekg.RcodeRefused) {
		// After either the asker turns to its next server, which denies our names
		// for longer than we do, or cannot be reached.
		a.rcode = miekg.RcodeNameError
	}
	return a
}

// appended reports whether a name is one that s sees with one of the host's
// search domains behind it. A container that inherits those asks for it before
// it asks for the name alone; denied at once, it goes on.
func (v *view) appended(name string, s *scope) (zone string, ok bool) {
	if !s.client {
		return "", false
	}
	for _, domain := range v.search {
		if rest, under := cut(name, domain); under && rest != "" {
			if _, ours := v.bare(rest, s); ours {
				return domain, true
			}
		}
	}
	return "", false
}

// nobody sees no names of endpoints, and has everything else forwarded.
var nobody = &scope{}

// neighbour is the scope of an asker that is no client, at Zone.Address: that of
// a program on one of the host's other local networks, nil for anybody else.
func (s *Server) neighbour(v *view, a netip.Addr) *scope {
	for _, x := range v.networks {
		if _, ours := x.holds(netip.PrefixFrom(a, a.BitLen())); ours {
			return nil // an endpoint that nobody told us of
		}
	}
	if s.local.onLink(a) {
		return nobody
	}
	return nil
}
