package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testZone has two networks with the same subnet, an internal one and one that
// the host does not see.
func testZone() Zone {
	subnet := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	return Zone{
		Domain: "weft.internal", Complete: true,
		Networks: []Network{
			{Name: "blue", Device: "g1", HostAccess: true, Subnets: subnet, Gateways: addrs("192.0.2.1"), Names: []Name{
				{Name: "db.primary", Addrs: addrs("192.0.2.30")},
				{Name: "dual", Addrs: addrs("192.0.2.40", "2001:db8::40")},
				{Name: "pair", Addrs: addrs("192.0.2.20")},
				{Name: "pair", Addrs: addrs("192.0.2.21"), Unready: true},
				{Name: "sick", Addrs: addrs("192.0.2.50"), Unready: true},
				{Name: "web", Aliases: []string{"www", "WEB"}, Addrs: addrs("192.0.2.10")},
			}},
			{Name: "green", Device: "g2", HostAccess: true, Subnets: subnet, Gateways: addrs("192.0.2.1"), Names: []Name{
				{Name: "cache", Addrs: addrs("192.0.2.60")},
				{Name: "web", Addrs: addrs("192.0.2.11")},
			}},
			{Name: "secret", Device: "g3", Internal: true, Subnets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")},
				Gateways: addrs("198.51.100.1"), Names: []Name{{Name: "vault", Addrs: addrs("198.51.100.9")}}},
			{Name: "v6", HostAccess: true, Subnets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")},
				Names: []Name{{Name: "six", Addrs: addrs("2001:db8::6")}}},
		},
		Hosts: []Host{{"node1", addrs("203.0.113.1")[0]}},
		Clients: []Client{
			{"g1", addrs("192.0.2.10")[0], []string{"blue"}},
			{"g2", addrs("192.0.2.10")[0], []string{"green"}},
			{"g1", addrs("192.0.2.20")[0], []string{"blue", "green", "v6"}},
			{"g3", addrs("198.51.100.9")[0], []string{"secret"}},
			{"g3", addrs("198.51.100.10")[0], []string{"secret", "blue"}},
		},
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// The askers of the tables below.
var askers = map[string]Scope{
	"blue":   {Client: Client{Device: "g1", Addr: addrs("192.0.2.10")[0]}},
	"green":  {Client: Client{Device: "g2", Addr: addrs("192.0.2.10")[0]}},
	"both":   {Client: Client{Device: "g1", Addr: addrs("192.0.2.20")[0]}},
	"secret": {Client: Client{Device: "g3", Addr: addrs("198.51.100.9")[0]}},
	"mixed":  {Client: Client{Device: "g3", Addr: addrs("198.51.100.10")[0]}},
	"nobody": {Client: Client{Device: "g1", Addr: addrs("192.0.2.99")[0]}},
	"astray": {Client: Client{Device: "g3", Addr: addrs("192.0.2.10")[0]}},
	"host":   {Host: true},
	"host@2": {Client: Client{Device: "g2", Addr: addrs("192.0.2.1")[0]}},
	"lo":     {Client: Client{Addr: addrs("127.0.0.1")[0]}},
}

// ask gives the answer in one line: the rcode, the values sorted, and whose SOA
// record stands in the authority section. "forward" stands for a question that
// is to be asked upstream, which the servers here do not have.
func ask(t *testing.T, s *Server, from, name, qtype string) string {
	t.Helper()
	scope, ok := askers[from]
	if !ok {
		t.Fatalf("no asker %q", from)
	}
	before := s.stats.forwarded.Load()
	a, err := s.Resolve(context.Background(), name, qtype, scope)
	if err != nil {
		return err.Error()
	}
	if s.stats.forwarded.Load() > before {
		return "forward"
	}
	slices.Sort(a.Values)
	line := strings.Join(append([]string{a.Rcode}, a.Values...), " ")
	for _, rr := range a.Authority {
		line += " soa " + strings.Fields(rr)[0]
	}
	return line
}

// lonely has no upstream: what it forwards fails at once.
func lonely(t *testing.T, change func(*Config, *Zone)) *Server {
	t.Helper()
	cfg, zone := Config{ResolvConf: t.TempDir() + "/none", ForwardSingleLabel: true}, testZone()
	if change != nil {
		change(&cfg, &zone)
	}
	s := New(cfg)
	// The zone alone: the tables need no sockets, and their devices do not exist.
	s.view.Store(newView(zone, s.view.Load(), cfg.ForwardSingleLabel))
	return s
}

func TestAnswer(t *testing.T) {
	for _, tt := range []struct{ from, name, qtype, want string }{
		{"blue", "web", "A", "NOERROR 192.0.2.10"},
		{"blue", "WeB.", "A", "NOERROR 192.0.2.10"},
		{"blue", "web.blue", "A", "NOERROR 192.0.2.10"},
		{"blue", "web.blue.weft.internal", "A", "NOERROR 192.0.2.10"},
		{"blue", "www.blue.weft.internal", "A", "NOERROR 192.0.2.10"},
		{"blue", "web", "AAAA", "NOERROR soa web."},
		{"blue", "web.blue.weft.internal", "AAAA", "NOERROR soa weft.internal."},
		{"blue", "web.blue.weft.internal", "MX", "NOERROR soa weft.internal."},
		{"blue", "web.blue.weft.internal", "TYPE65", "unknown type \"TYPE65\""},
		{"blue", "web.blue.weft.internal", "HTTPS", "NOERROR soa weft.internal."},
		{"blue", "web.blue.weft.internal", "SOA", "NOERROR soa weft.internal."},
		{"blue", "web.blue.weft.internal", "ANY", `NOERROR "RFC8482" ""`},
		{"blue", "web.blue.weft.internal", "AXFR", "REFUSED"},
		{"blue", "dual", "A", "NOERROR 192.0.2.40"},
		{"blue", "dual", "AAAA", "NOERROR 2001:db8::40"},

		// Names that do not exist.
		{"blue", "nope.blue.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"blue", "x.web.blue.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"blue", "web.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"blue", "nope", "A", "forward"},
		{"blue", "nope.blue", "A", "forward"},
		{"blue", "a.nope.blue", "A", "forward"},
		{"blue", "nope.notblue", "A", "forward"},
		{"blue", "example.com", "A", "forward"},
		{"blue", "notweft.internal", "A", "forward"},
		{"blue", `x\.weft.internal`, "A", "forward"},
		{"blue", ".", "NS", "forward"},

		// Names that exist and hold nothing.
		{"blue", "weft.internal", "A", "NOERROR soa weft.internal."},
		{"blue", "weft.internal", "SOA", "NOERROR weft.internal. hostmaster.weft.internal. 2 3600 600 86400 5"},
		{"blue", "blue.weft.internal", "A", "NOERROR soa weft.internal."},
		{"blue", "primary.blue.weft.internal", "A", "NOERROR soa weft.internal."},
		{"blue", "host.weft.internal", "A", "NOERROR soa weft.internal."},
		// Without the domain they are not ours.
		{"blue", "primary.blue", "A", "forward"},
		{"blue", "primary", "A", "forward"},
		{"blue", "host", "A", "forward"},

		// A name with a dot is served under the network's name only.
		{"blue", "db.primary.blue", "A", "NOERROR 192.0.2.30"},
		{"blue", "db.primary.blue.weft.internal", "A", "NOERROR 192.0.2.30"},
		{"blue", "db.primary", "A", "forward"},

		// Scope: the same name, and the same asking address, in two networks.
		{"green", "web", "A", "NOERROR 192.0.2.11"},
		{"green", "web.green", "A", "NOERROR 192.0.2.11"},
		{"green", "web.blue", "A", "forward"},
		{"green", "blue", "A", "forward"},
		{"secret", "web.blue", "A", "REFUSED"},
		{"green", "web.blue.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"green", "blue.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"both", "web", "A", "NOERROR 192.0.2.10"},
		{"both", "cache", "A", "NOERROR 192.0.2.60"},
		{"both", "web.green.weft.internal", "A", "NOERROR 192.0.2.11"},
		{"nobody", "web", "A", "REFUSED"},
		{"nobody", "example.com", "A", "REFUSED"},
		{"astray", "web", "A", "REFUSED"},

		// The host itself.
		{"host", "web", "A", "NOERROR 192.0.2.10"},
		{"host@2", "web", "A", "NOERROR 192.0.2.11"},
		{"lo", "six", "AAAA", "NOERROR 2001:db8::6"},
		{"host", "vault", "A", "forward"},
		{"host", "vault.secret.weft.internal", "A", "NXDOMAIN soa weft.internal."},

		// Internal networks.
		{"secret", "vault", "A", "NOERROR 198.51.100.9"},
		{"secret", "example.com", "A", "REFUSED"},
		{"secret", "nope", "A", "REFUSED"},
		{"secret", "nope.secret", "A", "NXDOMAIN soa secret."},
		{"secret", "1.113.0.203.in-addr.arpa", "PTR", "REFUSED"},
		{"mixed", "example.com", "A", "forward"},

		// Health.
		{"blue", "pair", "A", "NOERROR 192.0.2.20"},
		{"blue", "_all.pair", "A", "NOERROR 192.0.2.20 192.0.2.21"},
		{"blue", "_all.pair.blue.weft.internal", "A", "NOERROR 192.0.2.20 192.0.2.21"},
		{"blue", "sick", "A", "NOERROR 192.0.2.50"},
		{"blue", "_all.nope.blue.weft.internal", "A", "NXDOMAIN soa weft.internal."},

		// Services: an endpoint has none.
		{"blue", "web.blue.weft.internal", "SRV", "NOERROR soa weft.internal."},
		{"blue", "_http._udp.web.blue.weft.internal", "SRV", "NXDOMAIN soa weft.internal."},
		{"blue", "_smtp._tcp.web.blue.weft.internal", "SRV", "NXDOMAIN soa weft.internal."},

		// Hosts.
		{"blue", "node1.host", "A", "NOERROR 203.0.113.1"},
		{"secret", "node1.host.weft.internal", "A", "NOERROR 203.0.113.1"},
		{"blue", "node1.host", "AAAA", "NOERROR soa node1.host."},
		{"blue", "node2.host.weft.internal", "A", "NXDOMAIN soa weft.internal."},
		{"blue", "node2.host", "A", "forward"},

		// Addresses.
		{"blue", "10.2.0.192.in-addr.arpa", "PTR", "NOERROR web.blue.weft.internal."},
		{"blue", "192.0.2.10", "PTR", "NOERROR web.blue.weft.internal."},
		{"both", "2001:db8::6", "ptr", "NOERROR six.v6.weft.internal."},
		{"green", "10.2.0.192.in-addr.arpa", "PTR", "NXDOMAIN soa 2.0.192.in-addr.arpa."},
		{"both", "11.2.0.192.in-addr.arpa", "PTR", "NOERROR web.green.weft.internal."},
		{"blue", "10.2.0.192.in-addr.arpa", "A", "NOERROR soa 2.0.192.in-addr.arpa."},
		{"blue", "10.2.0.192.in-addr.arpa", "ANY", `NOERROR "RFC8482" ""`},
		{"blue", "77.2.0.192.in-addr.arpa", "PTR", "NXDOMAIN soa 2.0.192.in-addr.arpa."},
		{"blue", "2.0.192.in-addr.arpa", "NS", "NOERROR soa 2.0.192.in-addr.arpa."},
		{"blue", "0.192.in-addr.arpa", "NS", "forward"},
		{"secret", "9.100.51.198.in-addr.arpa", "PTR", "NOERROR vault.secret.weft.internal."},
		{"secret", "8.100.51.198.in-addr.arpa", "PTR", "NXDOMAIN soa 8.100.51.198.in-addr.arpa."},
		{"blue", "9.100.51.198.in-addr.arpa", "PTR", "forward"},
		{"host", "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "NOERROR six.v6.weft.internal."},
		{"blue", reverseSix, "PTR", "forward"},
		{"blue", "200.100.51.198.in-addr.arpa", "PTR", "forward"},
		{"blue", "1.113.0.203.in-addr.arpa", "PTR", "forward"},
		{"blue", "010.2.0.192.in-addr.arpa", "PTR", "forward"},
		{"both", reverseSix, "PTR", "NOERROR six.v6.weft.internal."},
	} {
		t.Run(tt.from+" asks "+tt.name+" "+tt.qtype, func(t *testing.T) {
			if got := ask(t, lonely(t, nil), tt.from, tt.name, tt.qtype); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

const reverseSix = "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"

func TestAnswerWhileTableIsIncomplete(t *testing.T) {
	for _, tt := range []struct{ name, qtype, want string }{
		{"web.blue.weft.internal", "A", "NOERROR 192.0.2.10"},
		{"web.blue.weft.internal", "AAAA", "NOERROR soa weft.internal."},
		{"nope.blue.weft.internal", "A", "SERVFAIL"},
		{"nope.blue", "A", "forward"}, // where a denial is not believed
		{"web.green", "A", "forward"},
		{"web.other.weft.internal", "A", "SERVFAIL"},
		{"77.2.0.192.in-addr.arpa", "PTR", "SERVFAIL"},
		{"blue.weft.internal", "A", "NOERROR soa weft.internal."},
		{"example.com", "A", "forward"},
	} {
		s := lonely(t, func(_ *Config, z *Zone) { z.Complete = false })
		if got := ask(t, s, "blue", tt.name, tt.qtype); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.name, tt.qtype, got, tt.want)
		}
	}
}

func TestSingleLabelsAreDeniedWhenNotForwarded(t *testing.T) {
	s := lonely(t, func(c *Config, _ *Zone) { c.ForwardSingleLabel = false })
	for name, want := range map[string]string{
		"web": "NOERROR 192.0.2.10", "nope": "NXDOMAIN", "nope.example.com": "forward", ".": "forward",
	} {
		if got := ask(t, s, "blue", name, "A"); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestNamesThatDNSCannotCarryAreNotServed(t *testing.T) {
	long := strings.Repeat("x", 64)
	s := lonely(t, func(_ *Config, z *Zone) {
		z.Networks[0].Names = []Name{
			{Name: long, Aliases: []string{"short"}, Addrs: addrs("192.0.2.70")},
			{Name: "a b", Addrs: addrs("192.0.2.71")},
			{Name: "", Addrs: addrs("192.0.2.72")},
			{Name: "a..b", Addrs: addrs("192.0.2.73")},
		}
	})
	got := map[string]string{}
	for _, name := range []string{"short.blue.weft.internal", `a\032b.blue.weft.internal`, "blue.weft.internal", "b.blue.weft.internal"} {
		got[name] = ask(t, s, "blue", name, "A")
	}
	want := map[string]string{
		"short.blue.weft.internal":  "NOERROR 192.0.2.70",
		`a\032b.blue.weft.internal`: "NXDOMAIN soa weft.internal.",
		"blue.weft.internal":        "NOERROR soa weft.internal.",
		"b.blue.weft.internal":      "NXDOMAIN soa weft.internal.",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := ask(t, s, "blue", "70.2.0.192.in-addr.arpa", "PTR"); got != "NXDOMAIN soa 2.0.192.in-addr.arpa." {
		t.Errorf("the address of a name that is not served: %s", got)
	}
}

// An endpoint is given a host's address on a network that both are on, whoever
// else asks its underlay address.
func TestHostOnANetwork(t *testing.T) {
	s := lonely(t, func(_ *Config, z *Zone) {
		z.Networks[0].Hosts = []Host{{"Node1", addrs("192.0.2.200")[0]}, {"node3", addrs("192.0.2.203")[0]}}
	})
	for _, tt := range []struct{ from, name, want string }{
		{"blue", "node1.host", "NOERROR 192.0.2.200"},
		{"blue", "node3.host.weft.internal", "NOERROR 192.0.2.203"},
		{"green", "node1.host", "NOERROR 203.0.113.1"},
		{"green", "node3.host.weft.internal", "NXDOMAIN soa weft.internal."},
		{"host", "node1.host", "NOERROR 203.0.113.1"},
	} {
		if got := ask(t, s, tt.from, tt.name, "A"); got != tt.want {
			t.Errorf("%s asks for %s: got %s, want %s", tt.from, tt.name, got, tt.want)
		}
	}
}

func TestAddressesAreRotated(t *testing.T) {
	s := lonely(t, func(_ *Config, z *Zone) {
		z.Networks[0].Names = []Name{
			{Name: "web", Addrs: addrs("192.0.2.1")}, {Name: "web", Addrs: addrs("192.0.2.2")}, {Name: "web", Addrs: addrs("192.0.2.3")},
		}
		z.Networks[0].Answers = -1
	})
	first := map[string]int{}
	for range 600 {
		a, err := s.Resolve(context.Background(), "web", "A", askers["blue"])
		if err != nil || len(a.Values) != 3 {
			t.Fatal(a, err)
		}
		first[a.Values[0]]++
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		if first[addr] < 120 {
			t.Errorf("%s came first %d times of 600, want about 200", addr, first[addr])
		}
	}
}

func TestQuestionThatIsNone(t *testing.T) {
	s := lonely(t, nil)
	for _, tt := range [][2]string{{"web", "NOTYPE"}, {strings.Repeat("x", 64), "A"}, {"a..b", "A"}} {
		if a, err := s.Resolve(context.Background(), tt[0], tt[1], Scope{Host: true}); err == nil {
			t.Errorf("%s %s: got %v, want an error", tt[0], tt[1], a)
		}
	}
}

func TestNamesThatNobodyAsksFor(t *testing.T) {
	for name, want := range map[string]bool{
		"123": true, "0x10": true, "0X1f": true, "017": true, "1.2": true, "1.2.3.4": true, "4294967295": true, "0": true, "1.0x10": true,
		"web": false, "12a": false, "0x": false, "08": false, "1_2": false, "4294967296": false, "1.2.3.4.5": false, "256.1": false,
		"1.2.3.256": false, "0b1": false, "0o7": false, "": false, "-1": false, "123.blue": false, "beef": false, "1e3": false,
		"localhost": true, "LOCALHOST.": true, "web.localhost": true, "localhost1": false,
	} {
		if got := NeverAsked(name); (got != "") != want {
			t.Errorf("%q: taken for %q, want it taken for an address: %v", name, got, want)
		}
	}
}
