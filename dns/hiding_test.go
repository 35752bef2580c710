package dns

import (
	"net"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// world is an upstream that knows these names, as "owner type data" lines, and denies
// the rest.
func world(t testing.TB, lines ...string) *testUpstream {
	var all []miekg.RR
	for _, line := range lines {
		owner, rest, _ := strings.Cut(line, " ")
		rr, err := miekg.NewRR(owner + " 60 IN " + rest)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg).SetRcode(q, miekg.RcodeNameError)
		m.RecursionAvailable = true
		asked := q.Question[0]
		for _, rr := range all {
			if !strings.EqualFold(rr.Header().Name, asked.Name) {
				continue
			}
			m.Rcode = miekg.RcodeSuccess
			if t := rr.Header().Rrtype; t == asked.Qtype || t == miekg.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Rrtype == miekg.TypeCNAME {
			m.Rcode = miekg.RcodeNameError // of what it leads to, which is ours
		}
		_ = w.WriteMsg(m)
	})
}

// A network may be called as a domain is that others have: nothing of theirs is hidden,
// from who is on it or elsewhere.
func TestANetworksNameHidesNothing(t *testing.T) {
	up := world(t, "go.dev. A 203.0.113.5", "dev. A 203.0.113.6", "github.dev. A 203.0.113.7", "metadata.google.dev. A 203.0.113.8",
		"6.2.0.192.in-addr.arpa. PTR company.example.", "www.internal. A 203.0.113.9", "node9.host. A 203.0.113.10")
	s := through(t, up)
	z := s.zone
	z.Networks = append([]Network(nil), z.Networks...)
	z.Networks[0].Name, z.Networks[1].Name = "dev", "internal"
	z.Networks[0].Names = []Name{{Name: "web", Addrs: addrs("192.0.2.10")}, {Name: "x.github", Addrs: addrs("192.0.2.11")}}
	z.Networks = append(z.Networks, Network{Name: "other", Device: "lo", Gateways: addrs(loopback().String()), HostAccess: true})
	elsewhere := loopback()
	z.Clients = []Client{{"lo", s.client, []string{"dev"}}, {"lo", elsewhere, []string{"other"}}}
	for _, complete := range []bool{true, false} {
		z.Complete = complete
		s.Set(z)
		on, off := s.dial(t, "udp"), dialFrom(t, "udp", elsewhere, s.addr)
		denied := map[bool]string{true: "NXDOMAIN", false: "SERVFAIL"}[complete]
		for _, tt := range []struct {
			name    string
			on, off string
		}{
			{"go.dev", "203.0.113.5", "203.0.113.5"},
			{"dev", "203.0.113.6", "203.0.113.6"},
			{"github.dev", "203.0.113.7", "203.0.113.7"},
			{"metadata.google.dev", "203.0.113.8", "203.0.113.8"},
			{"www.internal", "203.0.113.9", "203.0.113.9"},
			{"node9.host", "203.0.113.10", "203.0.113.10"},
			{"web.dev", "192.0.2.10", "NXDOMAIN"},
			{"web.dev.weft.internal", "192.0.2.10", denied},
			{"nope.dev", denied, "NXDOMAIN"}, // who is on it may still be told of it
			{"nope.dev.weft.internal", denied, denied},
		} {
			if got := first(exchange(t, on, tt.name, 2*time.Second)); got != tt.on {
				t.Errorf("complete %v: %s on the network: %s, want %s", complete, tt.name, got, tt.on)
			}
			if got := first(exchange(t, off, tt.name, 2*time.Second)); got != tt.off {
				t.Errorf("complete %v: %s elsewhere: %s, want %s", complete, tt.name, got, tt.off)
			}
		}
		ptr := func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypePTR }
		if m := exchange(t, off, "6.2.0.192.in-addr.arpa", 2*time.Second, ptr); rcode(m) != "NOERROR" || len(m.Answer) != 1 {
			t.Errorf("an address of a network that the asker is not on: %v", m)
		}
	}
}

// A name elsewhere may be an alias of one of ours: the answer has the address too.
func TestAnAliasElsewhereOfOurNameIsCompleted(t *testing.T) {
	const ours = ".blue.weft.internal."
	up := world(t, "shop.example. CNAME Web"+ours, "one.example. CNAME two.example.", "gone.example. CNAME nope"+ours,
		"two.example. CNAME web"+ours, "plain.example. CNAME else.example.", "hidden.example. CNAME vault.secret.weft.internal.",
		"short.example. CNAME web.blue.", "round.example. CNAME round.example.")
	s := through(t, up)
	conn := s.dial(t, "udp")
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  string // rcode, then the records' types
	}{
		{"shop.example", miekg.TypeA, "NOERROR CNAME A"},
		{"shop.example", miekg.TypeAAAA, "NOERROR CNAME"},
		{"shop.example", miekg.TypeCNAME, "NXDOMAIN CNAME"},
		{"short.example", miekg.TypeA, "NOERROR CNAME A"},
		{"gone.example", miekg.TypeA, "NXDOMAIN CNAME"},
		{"hidden.example", miekg.TypeA, "NXDOMAIN CNAME"},
		{"plain.example", miekg.TypeA, "NXDOMAIN CNAME"},
		{"round.example", miekg.TypeA, "NXDOMAIN CNAME"},
		{"none.example", miekg.TypeA, "NXDOMAIN"},
	} {
		m := exchange(t, conn, tt.name, 2*time.Second, func(m *miekg.Msg) { m.Question[0].Qtype = tt.qtype })
		got := rcode(m)
		for _, rr := range m.Answer {
			got += " " + miekg.TypeToString[rr.Header().Rrtype]
			if a, ok := rr.(*miekg.A); ok && (!a.A.Equal(net.IPv4(192, 0, 2, 10)) || !strings.EqualFold(a.Hdr.Name, strings.TrimSuffix(m.Answer[len(m.Answer)-2].(*miekg.CNAME).Target, ""))) {
				t.Errorf("%s: %v", tt.name, a)
			}
		}
		if got != tt.want || m.Authoritative {
			t.Errorf("%s %s: %s, want %s", tt.name, miekg.TypeToString[tt.qtype], got, tt.want)
		}
	}
	a, err := s.Resolve(t.Context(), "shop.example", "A", Scope{Host: true})
	if err != nil || len(a.Values) != 2 || a.Values[1] != "192.0.2.10" {
		t.Errorf("the command line got %+v, %v", a, err)
	}
}

// A chain of aliases, as a resolver that follows them hands it over.
func TestAChainOfAliasesIsFollowed(t *testing.T) {
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := new(miekg.Msg).SetRcode(q, miekg.RcodeNameError)
		for _, line := range []string{"two.example. 60 IN CNAME web.blue.weft.internal.", q.Question[0].Name + " 60 IN CNAME two.example."} {
			rr, err := miekg.NewRR(line)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	m := exchange(t, through(t, up).dial(t, "udp"), "one.example", 2*time.Second)
	if rcode(m) != "NOERROR" || len(m.Answer) != 3 || len(m.Ns) != 0 {
		t.Errorf("got %v", m)
	}
}
