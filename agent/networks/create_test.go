package networks

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

func TestOptionsOfANetwork(t *testing.T) {
	for _, tt := range []struct {
		options map[string]string
		want    string // in the error; empty: accepted
	}{
		{map[string]string{"mtu": "1400", "host_access": "full", "dns_answers": "all"}, ""},
		{map[string]string{"mtu": "1400", "host_access": "full", "dns_answers": "1"}, ""},
		{map[string]string{"mtu": "many"}, "-o mtu=many"},
		{map[string]string{"mtu": "100"}, "576 to"},
		{map[string]string{"host_access": "some"}, "none, local or full"},
		{map[string]string{"dns_answers": "0"}, "1 to 100, or all"},
		{map[string]string{"dns_answers": "101"}, "1 to 100, or all"},
		{map[string]string{"dns_answers": ""}, "1 to 100, or all"},
		{map[string]string{"encrypt": "true"}, "-o encrypt: unknown option"},
	} {
		m := Maker{Members: func() []discovery.Member { return nil }}
		spec, _, err := m.check(api.NetworkCreateRequest{Name: "blue", Options: tt.options})
		if err == nil && (spec.MTU != 1400 || spec.Options["host_access"] != "full") {
			t.Errorf("%v: got %+v", tt.options, spec)
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%v: %v", tt.options, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || api.KindOf(err) != api.KindMisuse):
			t.Errorf("%v: got %v, want misuse with %q", tt.options, err, tt.want)
		}
	}
}

func TestPublicSubnetsAreWarnedOf(t *testing.T) {
	got := publicSubnets([]string{"10.0.0.0/8", "192.0.2.0/24", "100.64.0.0/10", "8.8.8.0/24", "172.0.0.0/8", "nonsense"})
	if len(got) != 2 || !strings.HasPrefix(got[0], "8.8.8.0/24") || !strings.HasPrefix(got[1], "172.0.0.0/8") {
		t.Errorf("got %q, want 8.8.8.0/24 and 172.0.0.0/8", got)
	}
}

func TestNamesOfDomainsElsewhereAreWarnedOf(t *testing.T) {
	for name, want := range map[string]bool{
		"dev": true, "com": true, "internal": true, "local": true, "io": true, "blue": true, "arpa": true, "home": true,
		"backend": false, "redis": false, "my-app": false, "c0m": false, "co_uk": false,
	} {
		if got := publicName(name); (len(got) == 1) != want {
			t.Errorf("%s: warned with %q, want a warning: %v", name, got, want)
		}
	}
}
