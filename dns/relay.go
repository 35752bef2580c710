package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

// relay is an upstream's reply as q's: the records as they came, byte by byte,
// behind q's id and question. The question is as long as the one that was asked
// upstream, so every compression pointer still leads to the same place.
func (s *Server) relay(q *query, m *message) []byte {
	edns, ok := q.ownEDNS(m)
	if !ok {
		return s.pack(q, q.reply(miekg.RcodeServerFailure), nil)
	}
	keep := m.records
	for i, r := range m.section(additionalSection) {
		if r.rtype == miekg.TypeOPT { // of the upstream's EDNS with us
			keep = m.records[:m.counts[answerSection]+m.counts[authoritySection]+i]
			break
		}
	}
	if end(m, keep)+len(edns) > q.size {
		if anew := new(miekg.Msg); anew.Unpack(m.wire) == nil {
			return s.pack(q, relayed(q, anew), nil) // compressed better than the upstream may have it
		}
		s.stats.truncated.Add(1)
		for len(keep) > 0 && end(m, keep)+len(edns) > q.size {
			keep = keep[:len(keep)-1]
		}
	}
	return q.assemble(m, keep, edns)
}

// end is where the last of the records that are kept ends.
func end(m *message, keep []record) int {
	if len(keep) == 0 {
		return m.body
	}
	return keep[len(keep)-1].end
}

// assemble puts the first records of m behind q's header and question. What is
// left out of the answer or the authority section is said (RFC 2181, section 9).
func (q *query) assemble(m *message, keep []record, edns []byte) []byte {
	out := make([]byte, end(m, keep), end(m, keep)+len(edns))
	copy(out, m.wire)
	if _, err := miekg.PackDomainName(q.msg.Question[0].Name, out, headerLen, nil, false); err != nil {
		return nil
	}
	binary.BigEndian.PutUint16(out, q.msg.Id)
	out[2] = 0x80 | m.wire[2]&0x04 // QR, AA
	if q.msg.RecursionDesired {
		out[2] |= 0x01
	}
	if m.truncated() || len(keep) < m.counts[answerSection]+m.counts[authoritySection] {
		out[2] |= 0x02
	}
	out[3] = 0x80 | m.wire[3]&0x20 | byte(relayedRcode(m.rcode())) // RA, AD
	if q.msg.CheckingDisabled {
		out[3] |= 0x10
	}
	left := len(keep)
	for i, n := range m.counts {
		n = min(n, left)
		left -= n
		if i == additionalSection && len(edns) > 0 {
			n++
		}
		binary.BigEndian.PutUint16(out[6+2*i:], uint16(n))
	}
	return append(out, edns...)
}

// relayedRcode leaves out what is about the upstream's EDNS with us, and nothing
// that a client could act on.
func relayedRcode(rcode int) int {
	if rcode > 0xF {
		return miekg.RcodeServerFailure
	}
	return rcode
}

// ownEDNS is q's OPT record, with the extended errors of m in it; empty if q has
// no EDNS. Those that are too long for q are left out.
func (q *query) ownEDNS(m *message) ([]byte, bool) {
	if q.opt == nil {
		return nil, true
	}
	reply := q.reply(0)
	if opt, ok := m.edns(); ok {
		for _, e := range extendedErrors(m.wire[opt.data:opt.end]) {
			explain(reply, e.InfoCode, e.ExtraText)
		}
	}
	opt := reply.IsEdns0()
	if miekg.Len(opt) > q.size/4 {
		opt.Option = nil
	}
	out := make([]byte, miekg.Len(opt))
	n, err := miekg.PackRR(opt, out, 0, nil, false)
	return out[:max(n, 0)], err == nil
}

// extendedErrors reads those of an OPT record's options (RFC 8914), as far as the
// options are whole.
func extendedErrors(options []byte) (all []miekg.EDNS0_EDE) {
	for len(options) >= 4 {
		code, n := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		if options = options[4:]; n > len(options) {
			break
		}
		if code == miekg.EDNS0EDE && n >= 2 {
			all = append(all, miekg.EDNS0_EDE{InfoCode: binary.BigEndian.Uint16(options), ExtraText: string(options[2:n])})
		}
		options = options[n:]
	}
	return all
}
