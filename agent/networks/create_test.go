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
		{map[string]string{"mtu": "1400", "host_access": "full"}, ""},
		{map[string]string{"mtu": "many"}, "-o mtu=many"},
		{map[string]string{"mtu": "100"}, "576 to"},
		{map[string]string{"host_access": "some"}, "none, local or full"},
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
