package dns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// rawUpstream answers with bytes of its own making: udp and tcp get the good reply,
// with an A record, and return what is sent in its place; nil is silence.
func rawUpstream(t *testing.T, udp, tcp func(good []byte) []byte) *testUpstream {
	return startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		good := answerWith(q, "203.0.113.5")
		good.RecursionAvailable = true
		wire, err := good.Pack()
		if err != nil {
			t.Error(err)
		}
		change := udp
		if w.RemoteAddr().Network() == "tcp" {
			change = tcp
		}
		if wire = change(wire); wire != nil {
			_, _ = w.Write(wire)
		}
	})
}

func as(b []byte) []byte    { return b }
func noReply([]byte) []byte { return nil }
func cutBy(n int) func([]byte) []byte {
	return func(b []byte) []byte { return b[:len(b)-n] }
}

// withRecord adds one more answer in its wire form.
func withRecord(record []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b = append(bytes.Clone(b), record...)
		binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])+1)
		return b
	}
}

// unreadable are records whose data the library refuses.
var unreadable = map[string][]byte{
	"an A record of three bytes": {0xC0, headerLen, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3},
	"an SVCB record with keys out of order": {0xC0, headerLen, 0, 64, 0, 1, 0, 0, 0, 60, 0, 11,
		0, 1, 0, 0, 3, 0, 0, 0, 1, 0, 0},
	"a TXT record whose string is longer": {0xC0, headerLen, 0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 9, 'x'},
	"a CNAME record that points forward":  {0xC0, headerLen, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xFF, 0xFE},
}

// What the library cannot read is between the upstream and the client.
func TestARecordThatTheLibraryCannotReadIsRelayed(t *testing.T) {
	for name, record := range unreadable {
		t.Run(name, func(t *testing.T) {
			s := through(t, rawUpstream(t, withRecord(record), noReply))
			conn := s.dial(t, "udp")
			if err := conn.WriteMsg(new(miekg.Msg).SetQuestion("WWW.example.", miekg.TypeA)); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			packet, err := readDatagram(conn.Conn)
			if err != nil {
				t.Fatal(err)
			}
			m, err := cutUp(packet)
			if err != nil || m.counts[answerSection] != 2 || !bytes.HasSuffix(packet, record) {
				t.Fatalf("got %v: %x", err, packet)
			}
			if !bytes.Contains(packet, []byte("\x03WWW")) {
				t.Errorf("the question is not in the client's spelling: %q", packet)
			}
			if s.remote.resolvers.current()[0].doubtful() {
				t.Error("the upstream is in doubt for it")
			}
			a, err := s.Resolve(t.Context(), "www.example", "A", Scope{Host: true})
			if err != nil || a.Rcode != "NOERROR" || len(a.Answer) < 1 || !strings.Contains(a.Answer[0], "203.0.113.5") {
				t.Errorf("the command line got %+v, %v", a, err)
			}
		})
	}
}

// What an upstream may send in place of a reply as it should be, and what comes of it.
func TestRepliesThatAreNotWhole(t *testing.T) {
	refused := func(b []byte) []byte {
		b[3] = b[3]&0xF0 | miekg.RcodeRefused
		b[7] = 0
		return b
	}
	bare := func(b []byte) []byte { return refused(b)[:headerLen] }
	noQuestion := func(b []byte) []byte {
		b = append(bytes.Clone(refused(b)[:headerLen]), 0, 0, 41, 4, 0xD0, 0, 0, 0, 0, 0, 0) // OPT
		b[5], b[11] = 0, 1
		return b
	}
	emptied := func(b []byte) []byte { // what a server that knows of TC sends
		b[2] |= 0x02
		b[7] = 0
		return b[:len(b)-4-25]
	}
	junk := func(b []byte) []byte { return append(bytes.Clone(b[:headerLen]), 0xFF, 0xFF, 0xFF) }
	for _, tt := range []struct {
		name     string
		udp, tcp func([]byte) []byte
		want     string
	}{
		{"a bare header", bare, noReply, "REFUSED"},
		{"no question, and EDNS", noQuestion, noReply, "REFUSED"},
		{"cut in the last record", cutBy(2), as, "203.0.113.5"},
		{"cut behind the question", cutBy(29), as, "203.0.113.5"},
		{"cut in the question", cutBy(40), as, "203.0.113.5"},
		{"cut behind the header", func(b []byte) []byte { return b[:headerLen] }, as, "203.0.113.5"},
		{"cut, and no TCP", cutBy(2), noReply, "SERVFAIL"},
		{"cut on both ways", cutBy(2), cutBy(2), "SERVFAIL"},
		{"truncated as it should be", emptied, as, "203.0.113.5"},
		{"junk", junk, as, "203.0.113.5"},
		{"junk on both ways", junk, junk, "SERVFAIL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := through(t, rawUpstream(t, tt.udp, tt.tcp))
			start := time.Now()
			m := exchange(t, s.dial(t, "udp"), "www.example.com", 4*time.Second)
			if got := first(m); got != tt.want || time.Since(start) > 2*time.Second {
				t.Errorf("got %s after %s, want %s", got, time.Since(start), tt.want)
			}
		})
	}
}

// A part of the answer is better than none, and is marked as what it is.
func TestWhatIsWholeOfACutReplyIsRelayed(t *testing.T) {
	second := []byte{0xC0, headerLen, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 6}
	s := through(t, rawUpstream(t, func(b []byte) []byte { return cutBy(3)(withRecord(second)(b)) }, noReply))
	m := exchange(t, s.dial(t, "udp"), "www.example.com", 4*time.Second)
	if first(m) != "203.0.113.5" || len(m.Answer) != 1 || !m.Truncated {
		t.Errorf("got %v", m)
	}
}

// A reply that is too long for the client is cut between records, readable or not.
func TestALongUnreadableReplyIsCutBetweenRecords(t *testing.T) {
	record := unreadable["an A record of three bytes"]
	many := func(b []byte) []byte {
		for range 100 {
			b = withRecord(record)(b)
		}
		return b
	}
	s := through(t, rawUpstream(t, many, many))
	for _, edns := range []bool{false, true} {
		conn := s.dial(t, "udp")
		q := new(miekg.Msg).SetQuestion("www.example.com.", miekg.TypeA)
		size := plainUDP
		if edns {
			q.SetEdns0(1000, false)
			size = 1000
		}
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		packet, err := readDatagram(conn.Conn)
		if err != nil {
			t.Fatal(err)
		}
		m, err := cutUp(packet)
		if err != nil || m.cut || !m.truncated() || len(packet) > size || len(packet) < size-2*len(record) {
			t.Errorf("EDNS %v: %v, %d bytes of %d: %x", edns, err, len(packet), size, packet)
		}
		if _, has := m.edns(); has != edns {
			t.Errorf("EDNS %v in the reply, %v in the query", has, edns)
		}
	}
}

// FuzzRelay gives whatever an upstream may send to a client. It must stay within the
// client's size, be no longer than its own records, and keep question and id.
func FuzzRelay(f *testing.F) {
	q := &query{msg: new(miekg.Msg).SetQuestion("WWW.example.com.", miekg.TypeA), size: plainUDP}
	q.msg.Id = 0x1234
	good, err := answerWith(q.msg, "203.0.113.5", "203.0.113.6").Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(good[:headerLen], true)
	f.Add(good[:len(good)-3], true)
	for _, record := range unreadable {
		f.Add(withRecord(record)(good), true)
	}
	s := New(Config{})
	f.Fuzz(func(t *testing.T, packet []byte, edns bool) {
		asked := *q
		if edns {
			asked.opt = new(miekg.Msg).SetEdns0(plainUDP, true).IsEdns0()
		}
		up := outgoing(&asked)
		up.Id = q.msg.Id
		m, err := match(bytes.Clone(packet), up)
		if m == nil || err != nil {
			return
		}
		out := s.relay(&asked, m)
		got, err := cutUp(out)
		if err != nil || got.cut {
			t.Fatalf("not whole: %v\n%x\n%x", err, packet, out)
		}
		if len(out) > plainUDP || binary.BigEndian.Uint16(out) != q.msg.Id || got.questions() != 1 || !bytes.HasPrefix(out[headerLen:], []byte("\x03WWW")) {
			t.Fatalf("%d bytes: %x", len(out), out)
		}
		if _, has := got.edns(); has != edns {
			t.Fatalf("EDNS %v, asked with %v: %x", has, edns, out)
		}
		if m.verdict(miekg.TypeA) != positive && got.verdict(miekg.TypeA) == positive && !got.truncated() {
			t.Fatalf("records from nowhere: %x\n%x", packet, out)
		}
		_ = fmt.Sprint(m.unpack())
	})
}
