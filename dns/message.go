package dns

import (
	"encoding/binary"
	"encoding/hex"
	"errors"

	miekg "github.com/miekg/dns"
)

// errMalformed is a reply that has the query's id and cannot be its answer: its
// question or its records do not fit into it.
var errMalformed = errors.New("malformed answer")

// message is an upstream's reply in its wire form, cut into records. What is in
// a record is between the upstream and the client: it may be of a type that was
// defined after this program.
type message struct {
	wire    []byte
	body    int      // offset of the first record
	records []record // those that are whole, in the order of the sections
	counts  [3]int   // of these: answers, authority, additional
	cut     bool     // it ends before the last record that its header counts
}

// record is one resource record of a message.
type record struct {
	start, end int
	data       int // offset of the record's data
	rtype      uint16
}

// The sections of a message.
const (
	answerSection = iota
	authoritySection
	additionalSection
)

// cutUp reads a packet of at least a header's length. Its question is whole, and
// as many of the records as it has whole. A bare header has no question, whatever
// it counts: some servers refuse with one.
func cutUp(packet []byte) (*message, error) {
	at := headerLen
	if len(packet) == headerLen {
		packet = append([]byte(nil), packet...)
		packet[4], packet[5] = 0, 0
	}
	for range binary.BigEndian.Uint16(packet[4:]) {
		end := skipName(packet, at)
		if end < 0 || end+4 > len(packet) {
			return nil, errMalformed
		}
		at = end + 4 // type and class
	}
	m := &message{wire: packet, body: at}
	for section := range m.counts {
		for range binary.BigEndian.Uint16(packet[6+2*section:]) {
			r, ok := cutRecord(packet, at)
			if !ok {
				m.cut = true
				return m, nil
			}
			m.records, at = append(m.records, r), r.end
			m.counts[section]++
		}
	}
	return m, nil
}

func cutRecord(packet []byte, at int) (record, bool) {
	end := skipName(packet, at)
	if end < 0 || end+10 > len(packet) {
		return record{}, false
	}
	r := record{start: at, data: end + 10, rtype: binary.BigEndian.Uint16(packet[end:])}
	r.end = r.data + int(binary.BigEndian.Uint16(packet[end+8:]))
	return r, r.end <= len(packet)
}

// skipName returns the offset behind a name, -1 if the packet ends before. It
// follows no pointer, so it cannot be led round in a circle.
func skipName(packet []byte, at int) int {
	for at < len(packet) {
		switch n := int(packet[at]); {
		case n == 0:
			return at + 1
		case n&0xC0 == 0xC0 && at+2 <= len(packet):
			return at + 2
		case n&0xC0 != 0:
			return -1
		default:
			at += 1 + n
		}
	}
	return -1
}

// section returns the whole records of a section.
func (m *message) section(s int) []record {
	from := 0
	for _, n := range m.counts[:s] {
		from += n
	}
	return m.records[from : from+m.counts[s]]
}

// has reports whether the answer holds a record of a type; ANY is any type.
func (m *message) has(qtype uint16) bool {
	for _, r := range m.section(answerSection) {
		if r.rtype == qtype || qtype == miekg.TypeANY {
			return true
		}
	}
	return false
}

func (m *message) questions() int { return int(binary.BigEndian.Uint16(m.wire[4:])) }

func (m *message) truncated() bool { return m.wire[2]&0x02 != 0 || m.cut }

// edns returns the OPT record, if there is one.
func (m *message) edns() (record, bool) {
	for _, r := range m.section(additionalSection) {
		if r.rtype == miekg.TypeOPT {
			return r, true
		}
	}
	return record{}, false
}

// rcode has the upper bits of EDNS as well (RFC 6891, section 6.1.3).
func (m *message) rcode() int {
	low := int(m.wire[3] & 0xF)
	if opt, ok := m.edns(); ok {
		return int(m.wire[opt.data-6])<<4 | low // of the TTL field
	}
	return low
}

// verdict is what a reply means to a question that several servers are asked.
type verdict int

const (
	positive verdict = iota // there are such records
	denial                  // there are none, says a server that knows
	refusal                 // the server cannot say
)

// verdict judges a reply to a question of a type.
func (m *message) verdict(qtype uint16) verdict {
	switch m.rcode() {
	case miekg.RcodeSuccess:
	case miekg.RcodeNameError:
		return denial
	default:
		return refusal
	}
	const aa, ra = 0x04, 0x80
	switch {
	case m.has(qtype), m.truncated():
		return positive
	case m.counts[answerSection] == 0 && m.wire[2]&aa == 0 && m.wire[3]&ra == 0:
		return refusal // a referral: it neither knows nor asks on
	}
	return denial
}

// unpack reads the message as far as the library can. A record that it cannot
// read has the form of RFC 3597.
func (m *message) unpack() *miekg.Msg {
	out := new(miekg.Msg)
	if out.Unpack(m.wire) == nil {
		return out
	}
	out = &miekg.Msg{MsgHdr: out.MsgHdr, Question: out.Question}
	out.Rcode = m.rcode()
	for i, section := range []*[]miekg.RR{&out.Answer, &out.Ns, &out.Extra} {
		for _, r := range m.section(i) {
			if rr := m.record(r); rr != nil {
				*section = append(*section, rr)
			}
		}
	}
	return out
}

// record unpacks one record; nil if its owner is no name.
func (m *message) record(r record) miekg.RR {
	if rr, _, err := miekg.UnpackRR(m.wire, r.start); err == nil {
		return rr
	}
	owner, _, err := miekg.UnpackDomainName(m.wire, r.start)
	if err != nil {
		return nil
	}
	head := m.wire[r.data-10:]
	return &miekg.RFC3597{Hdr: miekg.RR_Header{
		Name: owner, Rrtype: r.rtype, Class: binary.BigEndian.Uint16(head[2:]), Ttl: binary.BigEndian.Uint32(head[4:]),
		Rdlength: uint16(r.end - r.data),
	}, Rdata: hex.EncodeToString(m.wire[r.data:r.end])}
}
