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
	if domain, ok := v.appended(q.name, s); ok {
		return v.searched(domain, s)
	}
	a := v.answer(q, s)
	if w == shared && (a.rcode == miekg.RcodeServerFailure || a.rcode == miekg.RcodeRefused) {
		// After either the asker turns to its next server, which denies our names
		// for longer than we do, or cannot be reached.
		a.rcode = miekg.RcodeNameError
	}
	return a
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
