package dns

import (
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// wayZone is testZone on a host with search domains and an address for names.
func wayZone(_ *Config, z *Zone) {
	z.Address = addrs("169.254.53.53")[0]
	z.Search = []string{"corp.test", "weft.internal"}
	z.Clients = append(z.Clients, Client{"", addrs("203.0.113.77")[0], []string{"green"}})
}

func TestAnswerByWay(t *testing.T) {
	for _, tt := range []struct {
		from string
		name string
		way  way
		want string // rcode and zone, or "forward"
	}{
		// The host's search domains.
		{"blue", "web.corp.test", direct, "forward"},
		{"blue", "web.corp.test", redirected, "forward"},
		{"blue", "web.corp.test", shared, "forward"},
		{"blue", "web.blue.corp.test", shared, "forward"},
		{"secret", "vault.corp.test", redirected, "NXDOMAIN corp.test"},
		{"blue", "nope.corp.test", redirected, "forward"},
		{"blue", "corp.test", redirected, "forward"},
		{"blue", "cache.corp.test", redirected, "forward"}, // a name of a network that blue does not see
		{"host", "web.corp.test", shared, "forward"},
		{"blue", "web.blue.weft.internal", shared, "NOERROR "},
		// No answer that sends the asker to another server.
		{"secret", "example.com", redirected, "REFUSED "},
		{"secret", "example.com", shared, "NXDOMAIN "},
		{"blue", "nope.weft.internal", shared, "NXDOMAIN weft.internal"},
		{"blue", "example.com", shared, "forward"},
	} {
		s := lonely(t, wayZone)
		v := s.view.Load()
		as := v.host
		if c := askers[tt.from]; !c.Host {
			as = s.scope(v, source{c.Client.Device, c.Client.Addr})
		}
		a := v.answerAt(tt.way, question{tt.name, miekg.TypeA}, as)
		got := miekg.RcodeToString[a.rcode] + " " + a.zone
		if a.forward {
			got = "forward"
		}
		if got != tt.want {
			t.Errorf("%s asks for %s by way %d: %s, want %s", tt.from, tt.name, tt.way, got, tt.want)
		}
	}
}

// Before the table was read a name is not known to be missing. To the engine's
// resolver that must not be an invitation to ask a public server.
func TestIncompleteTableAtTheSharedAddress(t *testing.T) {
	s := lonely(t, func(c *Config, z *Zone) { wayZone(c, z); z.Complete = false })
	v := s.view.Load()
	q := question{"nope.weft.internal", miekg.TypeA}
	blue := s.scope(v, blueClient)
	if a := v.answerAt(redirected, q, blue); a.rcode != miekg.RcodeServerFailure {
		t.Errorf("redirected: %s", miekg.RcodeToString[a.rcode])
	}
	if a := v.answerAt(shared, q, blue); a.rcode != miekg.RcodeNameError {
		t.Errorf("shared: %s", miekg.RcodeToString[a.rcode])
	}
}

// Who may ask at the shared address without being a client.
func TestNeighbours(t *testing.T) {
	s := lonely(t, wayZone)
	v := s.view.Load()
	for from, want := range map[string]*scope{
		"127.0.0.5":    nobody, // in a subnet of the host's
		"203.0.113.78": nil,    // from elsewhere
		"192.0.2.99":   nil,    // in a network, and none of its endpoints
	} {
		if got := s.neighbour(v, addrs(from)[0]); got != want {
			t.Errorf("%s: %+v, want %+v", from, got, want)
		}
	}
	if c := s.scope(v, source{"", addrs("203.0.113.77")[0]}); c == nil || len(c.networks) != 1 {
		t.Errorf("a client behind another bridge has the scope %+v", c)
	}
}

// The host's own resolver may name the shared address: asking it would be
// asking ourselves.
func TestSharedAddressIsNoUpstream(t *testing.T) {
	s := lonely(t, wayZone)
	if !s.listensOn(netip.AddrPortFrom(addrs("169.254.53.53")[0], 53)) {
		t.Error("the zone's address would be asked as an upstream")
	}
}

// A name of ours with the host's search domain behind it is denied, so that who appends
// the domain goes on to the name alone; but not where the domain has that name itself.
func TestASearchDomainsOwnNamesAreNotHidden(t *testing.T) {
	known := world(t, "web.corp.test. A 203.0.113.5", "www.corp.test. CNAME web.corp.test.", "*.corp.test. A 203.0.113.9")
	everything := with(t, "203.0.113.9") // a wildcard
	for _, tt := range []struct {
		what string
		ups  []*testUpstream
		name string
		want string
	}{
		{"a name of the domain", []*testUpstream{known}, "web.corp.test", "203.0.113.5"},
		{"no name of the domain", []*testUpstream{known}, "pair.corp.test", "NXDOMAIN"},
		{"another name", []*testUpstream{known}, "nope.corp.test", "NXDOMAIN"},
		{"a wildcard", []*testUpstream{everything}, "web.corp.test", "NXDOMAIN"},
		{"a wildcard, another name", []*testUpstream{everything}, "nope.corp.test", "203.0.113.9"},
		{"nobody answers", []*testUpstream{silent(t)}, "web.corp.test", "NXDOMAIN"},
		{"nobody listens", []*testUpstream{nowhere(t)}, "web.corp.test", "NXDOMAIN"},
	} {
		s := through(t, tt.ups...)
		z := s.zone
		z.Search = []string{"corp.test"}
		s.Set(z)
		for range 2 {
			start := time.Now()
			packet := packed(t, func(m *miekg.Msg) { m.Question[0].Name = tt.name + "." })
			reply, q := s.handle(packet, source{"lo", s.client}, listenKey{device: "lo", way: redirected}, nil)
			if q != nil {
				reply = s.fetch(t.Context(), q)
			}
			m := new(miekg.Msg)
			if err := m.Unpack(reply); err != nil || first(m) != tt.want || time.Since(start) > searchWithin+prompt {
				t.Errorf("%s: %s after %s, %v, want %s", tt.what, first(m), time.Since(start), err, tt.want)
			}
		}
	}
}
