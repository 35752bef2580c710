package dns

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// appended reports whether a name is one that s sees with one of the host's
// search domains behind it. A container that inherits those asks for it before
// it asks for the name alone.
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

// searched answers for an appended name. It is denied, so that the asker goes on to
// the name alone, unless there is such a name in the domain: that must not be hidden.
func (v *view) searched(domain string, s *scope) answer {
	return answer{forward: !s.confined, rcode: miekg.RcodeNameError, zone: domain, searched: domain}
}

// searchWithin is the time that a domain has to show that it has a name. The asker waits
// for a name of ours meanwhile.
const searchWithin = time.Second

// searchedFor asks upstream for an appended name. nil: there is none, or nobody can say.
// What is there for any name, by a wildcard, is not there for this one.
func (s *Server) searchedFor(ctx context.Context, q *errand) *message {
	if !slices.ContainsFunc(s.remote.servers(), func(u *upstream) bool { return u.trouble() == nil }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	asked := q.msg.Question[0]
	m, err := s.remote.ask(ctx, q.query)
	if err != nil || m.verdict(asked.Qtype) != positive {
		return nil
	}
	anything := *q.query
	anything.msg = q.msg.Copy()
	anything.msg.Question[0].Name = miekg.Fqdn("weft-" + strconv.FormatUint(rand.Uint64(), 36) + "." + q.searched)
	other, err := s.remote.ask(ctx, &anything)
	if err != nil || slices.Equal(values(other), values(m)) {
		return nil
	}
	return m
}

// values are the answer records of a message without their owners and TTLs, sorted.
func values(m *message) (all []string) {
	for _, rr := range m.unpack().Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(all)
	return all
}
