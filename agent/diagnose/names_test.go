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
		facts Facts
		state string
		want  []string // in the detail
	}{
		{"one answers", Facts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", silent), at("192.0.2.2", nil)}}}, api.CheckOK, []string{"answering"}},
		{"none answers", Facts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", silent), at("192.0.2.2", errors.New("connection refused"))}}},
			api.CheckFail, []string{"192.0.2.1:53 (no answer), 192.0.2.2:53 (connection refused)"}},
		{"none is named", Facts{Upstreams: dns.Upstreams{File: "/etc/resolv.conf"}}, api.CheckFail, []string{"/etc/resolv.conf names none"}},
		{"the file is missing", Facts{Upstreams: dns.Upstreams{File: "/etc/resolv.conf", Err: missing}, NoResolvConf: "/etc/resolv.conf is a link to /run/x, which is missing"},
			api.CheckFail, []string{"/run/x, which is missing"}},
		{"the file cannot be read", Facts{Upstreams: dns.Upstreams{File: "/etc/other", Err: fs.ErrPermission}}, api.CheckFail, []string{"permission denied"}},
		{"nothing to bind over", Facts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", nil)}}, NoResolvConf: "/etc/resolv.conf is missing", NamedFiles: []string{"a", "b"}},
			api.CheckFail, []string{"/etc/resolv.conf is missing: ip netns exec gives no resolver to a, b"}},
		{"nobody has it bound over", Facts{Upstreams: dns.Upstreams{Servers: []dns.Upstream{at("192.0.2.1", nil)}}, NoResolvConf: "/etc/resolv.conf is missing"}, api.CheckOK, nil},
		{"all at once", Facts{Listeners: []error{errors.New("port taken")}, Upstreams: dns.Upstreams{File: "/etc/resolv.conf"}}, api.CheckFail,
			[]string{"port taken", "names none"}},
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
