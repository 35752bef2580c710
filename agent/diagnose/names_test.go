package diagnose

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/dns"
)

// The check fails while nobody answers the names of others, and says who should.
func TestNamesNeedAResolverThatAnswers(t *testing.T) {
	at := func(a string, err error) dns.Upstream {
		return dns.Upstream{Addr: netip.MustParseAddrPort(a + ":53"), Err: err}
	}
	silent, missing := errors.New("no answer"), &fs.PathError{Op: "open", Path: "/etc/resolv.conf", Err: fs.ErrNotExist}
	for _, tt := range []struct {
		name  string
		facts NameFacts
		state string
		want  []string // in the detail
	}{
		{"one answers", NameFacts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", silent), at("192.0.2.2", nil)}}}, api.CheckOK, []string{"answering"}},
		{"none answers", NameFacts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", silent), at("192.0.2.2", errors.New("connection refused"))}}},
			api.CheckFail, []string{"192.0.2.1:53 (no answer), 192.0.2.2:53 (connection refused)"}},
		{"none is named", NameFacts{Upstreams: dns.Upstreams{File: "/etc/resolv.conf"}}, api.CheckFail, []string{"/etc/resolv.conf names none"}},
		{"the file is missing", NameFacts{Upstreams: dns.Upstreams{File: "/etc/resolv.conf", Err: missing}, NoResolvConf: "/etc/resolv.conf is a link to /run/x, which is missing"},
			api.CheckFail, []string{"/run/x, which is missing"}},
		{"the file cannot be read", NameFacts{Upstreams: dns.Upstreams{File: "/etc/other", Err: fs.ErrPermission}}, api.CheckFail, []string{"permission denied"}},
		{"nothing to bind over", NameFacts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", nil)}}, NoResolvConf: "/etc/resolv.conf is missing", NamedFiles: []string{"a", "b"}},
			api.CheckFail, []string{"/etc/resolv.conf is missing: ip netns exec gives no resolver to a, b"}},
		{"nobody has it bound over", NameFacts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", nil)}}, NoResolvConf: "/etc/resolv.conf is missing"}, api.CheckOK, nil},
		{"all at once", NameFacts{Listeners: []error{errors.New("port taken")}, Upstreams: dns.Upstreams{File: "/etc/resolv.conf"}, Called: "new"}, api.CheckFail,
			[]string{"port taken", "names none", "new"}},
	} {
		c := names(tt.facts)
		if c.State != tt.state || (c.State == api.CheckFail) != (c.Hint != "") {
			t.Errorf("%s: %+v, want %s", tt.name, c, tt.state)
		}
		for _, want := range tt.want {
			if !strings.Contains(c.Detail, want) {
				t.Errorf("%s: %q, want %q in it", tt.name, c.Detail, want)
			}
		}
	}
}

// What resolves under no name, or not under the one that a user would ask for, is said.
func TestNamesThatDoNotResolveAreSaid(t *testing.T) {
	ok := dns.Upstreams{Servers: []dns.Upstream{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}}
	long := strings.Repeat("x", 66)
	zone := dns.Zone{Domain: "weft.internal", Networks: []dns.Network{{Name: "blue", Names: []dns.Name{
		{Name: "web"}, {Name: "123"}, {Name: "db", Aliases: []string{"0x10", long, "1.2"}},
	}}}}
	c := names(NameFacts{Upstreams: ok, Zone: zone, Called: "new", Known: "old"})
	for _, want := range []string{long + " on blue", "123 on blue, 0x10 on blue, 1.2 on blue", "new.host.weft.internal does not resolve"} {
		if !strings.Contains(c.Detail, want) {
			t.Errorf("%q, want %q in it", c.Detail, want)
		}
	}
	if c.State != api.CheckWarn || strings.Count(c.Hint, "\n") != 2 {
		t.Errorf("%+v", c)
	}
	zone.Networks[0].Names = zone.Networks[0].Names[:1]
	if c := names(NameFacts{Upstreams: ok, Zone: zone, Called: "old", Known: "old"}); c.State != api.CheckOK {
		t.Errorf("%+v", c)
	}
}
