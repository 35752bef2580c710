package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

const (
	headerLen = 12 // RFC 1035, section 4.1.1
	plainUDP  = 512
	// ednsUDP is the largest datagram that we send or ask for: no fragments
	// on any path with IPv6's minimum MTU (RFC 9715).
	ednsUDP = 1232
	maxTCP  = 65535
)

// query is one well-formed request.
type query struct {
	msg  *miekg.Msg
	opt  *miekg.OPT // nil without EDNS
	size int        // largest reply in bytes
}

// errand is a query on its way upstream, with what the reply has to be looked at with:
// by which way, as whom and of which zone it was asked.
type errand struct {
	*query
	way    way
	scope  *scope
	view   *view
	answer // doubt, searched, and what is said if nobody upstream knows
}

// handle takes one packet to its reply. Where the answer has to come from
// upstream it returns the query instead, for fetch. Neither means silence. The
// reply may use out's memory; the query holds nothing of the packet's.
func (s *Server) handle(packet []byte, from source, at listenKey, out []byte) (reply []byte, upstream *errand) {
	var failure error
	defer func() {
		if failure != nil {
			reply, upstream = header(packet, miekg.RcodeServerFailure, out), nil
		}
	}()
	defer s.remote.panics.caught("answer a question", &failure)
	s.stats.queries.Add(1)
	if len(packet) < headerLen || packet[2]&0x80 != 0 {
		s.stats.dropped.Add(1) // answering a response could go on for ever
		return nil, nil
	}
	q, rcode := decode(packet, at.tcp)
	if rcode != miekg.RcodeSuccess {
		s.stats.malformed.Add(1)
		return s.replied(q, nil, s.reject(q, rcode, packet, out)), nil
	}
	v := s.view.Load()
	scope := s.scope(v, from)
	if scope == nil && at.way == shared {
		scope = s.neighbour(v, from.addr)
	}
	if scope == nil {
		s.stats.refused.Add(1)
		no := answer{rcode: miekg.RcodeRefused, ede: miekg.ExtendedErrorCodeProhibited, reason: "not a client of this server"}
		return s.replied(q, nil, s.pack(q, q.render(no, v, s.ttl), out)), nil
	}
	a := v.answerAt(at.way, q.question(), scope)
	if a.forward {
		return nil, &errand{q, at.way, scope, v, a}
	}
	if a.rcode == miekg.RcodeRefused {
		s.stats.refused.Add(1)
	}
	return s.replied(q, scope, s.pack(q, q.render(a, v, s.ttl), out)), nil
}

// decode checks a packet of at least a header's length. With any rcode but
// success the query is nil, or as far as it goes.
func decode(packet []byte, tcp bool) (*query, int) {
	if opcode := packet[2] >> 3 & 0xF; opcode != miekg.OpcodeQuery {
		return nil, miekg.RcodeNotImplemented
	}
	if binary.BigEndian.Uint16(packet[4:]) != 1 {
		return nil, miekg.RcodeFormatError
	}
	q := &query{msg: new(miekg.Msg)}
	if err := q.msg.Unpack(packet); err != nil || len(q.msg.Question) != 1 {
		return nil, miekg.RcodeFormatError
	}
	for _, rr := range q.msg.Extra {
		if opt, ok := rr.(*miekg.OPT); ok {
			if q.opt != nil {
				return nil, miekg.RcodeFormatError // RFC 6891, section 6.1.1
			}
			q.opt = opt
		}
	}
	q.size = q.limit(tcp)
	switch {
	case q.opt != nil && q.opt.Version() != 0:
		return q, miekg.RcodeBadVers
	case q.msg.Question[0].Qclass != miekg.ClassINET:
		return q, miekg.RcodeNotImplemented
	}
	return q, miekg.RcodeSuccess
}

func (q *query) limit(tcp bool) int {
	switch {
	case tcp:
		return maxTCP
	case q.opt == nil:
		return plainUDP
	}
	return min(max(int(q.opt.UDPSize()), plainUDP), ednsUDP)
}

func (q *query) question() question {
	asked := q.msg.Question[0]
	return question{name: fold(asked.Name), qtype: asked.Qtype}
}

// reject refuses a packet: with the question where it could be read, else with
// a header alone.
func (s *Server) reject(q *query, rcode int, packet, out []byte) []byte {
	if q != nil {
		return s.pack(q, q.reply(rcode), out)
	}
	return header(packet, rcode, out)
}

// header is a reply without question: the id, the opcode and RD are the
// packet's.
func header(packet []byte, rcode int, out []byte) []byte {
	return append(out[:0], packet[0], packet[1], packet[2]&0x79|0x80, byte(rcode), 0, 0, 0, 0, 0, 0, 0, 0)
}

// pack gives m its wire form, in part and with TC where it is too long: as many
// records as fit, since musl before 1.2.4 takes those and never asks over TCP.
func (s *Server) pack(q *query, m *miekg.Msg, out []byte) []byte {
	m.Compress = true
	wire, err := m.PackBuffer(out[:cap(out)])
	if err == nil && len(wire) > q.size {
		m.Truncate(q.size)
		s.stats.truncated.Add(1)
		wire, err = m.PackBuffer(out[:cap(out)])
	}
	if err != nil {
		// Only an upstream's record can have no wire form.
		wire, err = q.reply(miekg.RcodeServerFailure).PackBuffer(out[:cap(out)])
		if err != nil {
			return nil
		}
	}
	return wire
}
