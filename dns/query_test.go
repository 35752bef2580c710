package dns

import (
	"fmt"
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"
)

var blueClient = source{"g1", netip.MustParseAddr("192.0.2.10")}

// packed is the wire form of a query for web's address, changed.
func packed(t testing.TB, change func(m *miekg.Msg)) []byte {
	t.Helper()
	m := new(miekg.Msg).SetQuestion("web.", miekg.TypeA)
	m.Id = 0x1234
	change(m)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// brief is a reply in one line: rcode, flags, counts, EDNS.
func brief(t *testing.T, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "silence"
	}
	m := new(miekg.Msg)
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("reply cannot be read: %v", err)
	}
	if m.Id != 0x1234 || !m.Response {
		t.Errorf("reply has id %#x, response %v", m.Id, m.Response)
	}
	line := miekg.RcodeToString[m.Rcode]
	if m.Rcode == miekg.RcodeBadVers {
		line = "BADVERS" // 16 is BADSIG as well, in TSIG records
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired}, {"ra", m.RecursionAvailable}, {"cd", m.CheckingDisabled}} {
		if f.set {
			line += " " + f.name
		}
	}
	if len(m.Question) > 0 {
		line += " " + m.Question[0].Name
	}
	line += fmt.Sprintf(" %d/%d", len(m.Answer), len(m.Ns))
	if opt := m.IsEdns0(); opt != nil {
		line += fmt.Sprintf(" edns %d", opt.UDPSize())
		if opt.Do() {
			line += " do"
		}
		for _, o := range opt.Option {
			line += " " + o.(*miekg.EDNS0_EDE).String()
		}
	}
	return line
}

func TestHandle(t *testing.T) {
	plainQuery := func(*miekg.Msg) {}
	for _, tt := range []struct {
		name   string
		packet []byte
		from   source
		want   string
	}{
		{"an address", packed(t, plainQuery), blueClient, "NOERROR aa rd ra web. 1/0"},
		{"without RD", packed(t, func(m *miekg.Msg) { m.RecursionDesired = false }), blueClient, "NOERROR aa ra web. 1/0"},
		{"with CD", packed(t, func(m *miekg.Msg) { m.CheckingDisabled = true }), blueClient, "NOERROR aa rd ra cd web. 1/0"},
		{"mixed case is echoed", packed(t, func(m *miekg.Msg) { m.Question[0].Name = "wEb.BLUE.weft.INTERNAL." }), blueClient,
			"NOERROR aa rd ra wEb.BLUE.weft.INTERNAL. 1/0"},
		{"EDNS", packed(t, func(m *miekg.Msg) { m.SetEdns0(4096, false) }), blueClient, "NOERROR aa rd ra web. 1/0 edns 1232"},
		{"EDNS with DO", packed(t, func(m *miekg.Msg) { m.SetEdns0(4096, true) }), blueClient, "NOERROR aa rd ra web. 1/0 edns 1232 do"},
		{"EDNS version 1", packed(t, func(m *miekg.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }), blueClient,
			"BADVERS rd ra web. 0/0 edns 1232"},
		{"two OPT records", packed(t, func(m *miekg.Msg) { m.SetEdns0(4096, false); m.SetEdns0(4096, false) }), blueClient, "FORMERR rd 0/0"},
		{"no question", packed(t, func(m *miekg.Msg) { m.Question = nil }), blueClient, "FORMERR rd 0/0"},
		{"two questions", packed(t, func(m *miekg.Msg) { m.Question = append(m.Question, m.Question[0]) }), blueClient, "FORMERR rd 0/0"},
		{"question cut off", packed(t, plainQuery)[:15], blueClient, "FORMERR rd 0/0"},
		{"name that points at itself", append(packed(t, plainQuery)[:12], 0xC0, 12, 0, 1, 0, 1), blueClient, "FORMERR rd 0/0"},
		{"header cut off", packed(t, plainQuery)[:11], blueClient, "silence"},
		{"nothing", nil, blueClient, "silence"},
		{"a response", packed(t, func(m *miekg.Msg) { m.Response = true }), blueClient, "silence"},
		{"NOTIFY", packed(t, func(m *miekg.Msg) { m.Opcode = miekg.OpcodeNotify }), blueClient, "NOTIMP rd 0/0"},
		{"UPDATE", packed(t, func(m *miekg.Msg) { m.Opcode = miekg.OpcodeUpdate }), blueClient, "NOTIMP rd 0/0"},
		{"class CH", packed(t, func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }), blueClient, "NOTIMP rd ra web. 0/0"},
		{"a stranger", packed(t, plainQuery), source{"g1", addrs("192.0.2.99")[0]}, "REFUSED rd ra web. 0/0"},
		{"a stranger with EDNS", packed(t, func(m *miekg.Msg) { m.SetEdns0(512, false) }), source{"g1", addrs("192.0.2.99")[0]},
			"REFUSED rd ra web. 0/0 edns 1232 18 (Prohibited): (not a client of this server)"},
		{"outside of an internal network", packed(t, func(m *miekg.Msg) { m.SetQuestion("example.com.", 1); m.Id = 0x1234; m.SetEdns0(512, false) }),
			source{"g3", addrs("198.51.100.9")[0]}, "REFUSED rd ra example.com. 0/0 edns 1232 20 (Not Authoritative): (internal network)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reply, upstream := lonely(t, nil).handle(tt.packet, tt.from, listenKey{}, nil)
			if upstream != nil {
				t.Fatal("goes upstream")
			}
			if got := brief(t, reply); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestPacketsAreCounted(t *testing.T) {
	s := lonely(t, nil)
	good := packed(t, func(*miekg.Msg) {})
	s.handle(good, blueClient, listenKey{}, nil)
	s.handle(good, source{"g1", addrs("192.0.2.99")[0]}, listenKey{}, nil)
	s.handle(good[:11], blueClient, listenKey{}, nil)
	s.handle(good[:13], blueClient, listenKey{}, nil)
	c := &s.stats
	got := [...]uint64{c.queries.Load(), c.refused.Load(), c.dropped.Load(), c.malformed.Load(),
		c.forwarded.Load(), c.overload.Load(), c.failed.Load(), c.truncated.Load(), c.conns.Load(), c.connsOver.Load()}
	if want := [...]uint64{4, 1, 1, 1}; got != [10]uint64(append(want[:], make([]uint64, 6)...)) {
		t.Errorf("queries, refused, dropped, malformed and others: %d, want %d and none", got, want)
	}
}

func TestAnswerThatDoesNotFitHasAsManyRecordsAsDo(t *testing.T) {
	s := lonely(t, func(_ *Config, z *Zone) {
		names := manyNames(100)
		for i := range names {
			names[i].Name = "web"
		}
		z.Networks[0].Names, z.Networks[0].Answers = names, -1
	})
	for _, tt := range []struct {
		name  string
		edns  uint16
		tcp   bool
		limit int
		want  string
	}{
		{"512 bytes", 0, false, 512, "NOERROR aa tc rd ra web. 30/0"},
		{"EDNS of 512 bytes", 512, false, 512, "NOERROR aa tc rd ra web. 30/0 edns 1232"},
		{"EDNS of less", 100, false, 512, "NOERROR aa tc rd ra web. 30/0 edns 1232"},
		{"EDNS of 1232 bytes", 1232, false, 1232, "NOERROR aa tc rd ra web. 75/0 edns 1232"},
		{"EDNS of more", 4096, false, 1232, "NOERROR aa tc rd ra web. 75/0 edns 1232"},
		{"TCP", 0, true, maxTCP, "NOERROR aa rd ra web. 100/0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packet := packed(t, func(m *miekg.Msg) {
				if tt.edns > 0 {
					m.SetEdns0(tt.edns, false)
				}
			})
			reply, _ := s.handle(packet, blueClient, listenKey{tcp: tt.tcp}, make([]byte, 0, maxQuery))
			if got := brief(t, reply); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(reply) > tt.limit || !tt.tcp && len(reply)+16 <= tt.limit {
				t.Errorf("%d bytes of %d", len(reply), tt.limit)
			}
		})
	}
}

func TestNegativeAnswersMayBeRememberedForFiveSeconds(t *testing.T) {
	reply, _ := lonely(t, nil).handle(packed(t, func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }), blueClient, listenKey{}, nil)
	m := new(miekg.Msg)
	if err := m.Unpack(reply); err != nil || len(m.Ns) != 1 {
		t.Fatal(m, err)
	}
	if soa := m.Ns[0].(*miekg.SOA); soa.Minttl != 5 || soa.Hdr.Ttl != 5 {
		t.Errorf("SOA minimum %d, TTL %d", soa.Minttl, soa.Hdr.Ttl)
	}
}

// FuzzHandle throws packets at the handler: it never panics, a reply is a
// response with the packet's id that others can read, within the size that was
// asked for.
func FuzzHandle(f *testing.F) {
	f.Add(packed(f, func(*miekg.Msg) {}), false)
	f.Add(packed(f, func(m *miekg.Msg) { m.SetEdns0(512, true); m.Question[0].Qtype = miekg.TypeANY }), true)
	f.Add(packed(f, func(m *miekg.Msg) { m.Question[0].Name = `_http._tcp.web.blue.weft.internal.` }), false)
	f.Add(packed(f, func(m *miekg.Msg) { m.Question[0] = miekg.Question{Name: reverseSix + ".", Qtype: 12, Qclass: 1} }), false)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xC0, 12, 0, 1, 0, 1}, false)
	s := New(Config{})
	s.view.Store(newView(testZone(), s.view.Load(), true))
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		reply, upstream := s.handle(packet, blueClient, listenKey{tcp: tcp}, make([]byte, 0, 512))
		if upstream != nil {
			reply = s.pack(upstream.query, unanswered(upstream.query, errNoUpstream), nil)
		}
		if reply == nil {
			if len(packet) >= headerLen && packet[2]&0x80 == 0 {
				t.Fatal("no reply to a query")
			}
			return
		}
		if reply[0] != packet[0] || reply[1] != packet[1] || reply[2]&0x80 == 0 {
			t.Fatalf("reply % x to % x", reply[:headerLen], packet[:headerLen])
		}
		if !tcp && len(reply) > ednsUDP {
			t.Fatalf("%d bytes", len(reply))
		}
		if err := new(miekg.Msg).Unpack(reply); err != nil {
			t.Fatalf("reply cannot be read: %v", err)
		}
	})
}
