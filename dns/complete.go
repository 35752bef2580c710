package dns

import (
	miekg "github.com/miekg/dns"
)

// maxAliases is how many CNAME records in a row are followed, as many as libc does.
const maxAliases = 16

// completed is the reply to q where a name elsewhere is an alias of one of ours. No
// upstream knows our addresses: it has the alias alone, or denies what it leads to.
// nil where the reply needs nothing of us.
func (s *Server) completed(q *errand, m *message) *miekg.Msg {
	asked := q.question()
	if m.has(asked.qtype) || !m.has(miekg.TypeCNAME) {
		return nil
	}
	target := m.follow(asked.name)
	if target == "" {
		return nil
	}
	a := q.view.answerAt(q.way, question{target, asked.qtype}, q.scope)
	if a.forward || a.rcode == miekg.RcodeRefused {
		return nil
	}
	ours := q.renderAs(miekg.Fqdn(target), a, q.view, s.ttl)
	ours.Authoritative = false // the alias is somebody else's
	ours.Answer = append(m.unpack().Answer, ours.Answer...)
	return ours
}

// follow returns where the CNAME records of the answer lead from a name, folded; empty
// if nowhere, or in a circle.
func (m *message) follow(name string) string {
	next := map[string]string{}
	for _, r := range m.section(answerSection) {
		if r.rtype == miekg.TypeCNAME {
			if cname, ok := m.record(r).(*miekg.CNAME); ok {
				next[fold(cname.Hdr.Name)] = fold(cname.Target)
			}
		}
	}
	target := ""
	for range maxAliases {
		to, more := next[name]
		if !more {
			return target
		}
		name, target = to, to
	}
	return ""
}
