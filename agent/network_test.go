package agent

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/overlay/linux"
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
		spec := pool.NetworkSpec{Options: map[string]string{}}
		err := readOptions(tt.options, &spec)
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

func TestErrorsHaveAKindAndAHint(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind api.Kind
	}{
		{pool.ErrPermission, api.KindPermission},
		{discovery.ErrStoreAway, api.KindFailed},
		{discovery.ErrFull, api.KindConflict},
		{errOtherMachine, api.KindConflict},
		{ipam.ErrOutside, api.KindMisuse},
		{linux.ErrNoNFT, api.KindFailed},
		{fs.ErrPermission, api.KindPermission},
		{pool.ErrNotFound, api.KindNotFound},
	} {
		e, ok := errors.AsType[*api.Error](explain("attach web", tt.err))
		if !ok || e.Kind != tt.kind || e.Hint == "" || !strings.HasPrefix(e.Message, "attach web: ") {
			t.Errorf("%v: got %+v, want kind %s with a hint", tt.err, e, tt.kind)
		}
	}
	if explain("attach", nil) != nil {
		t.Error("no error became one")
	}
	inner := api.Errorf(api.KindNotFound, "no network x").WithHint("h")
	if e, _ := errors.AsType[*api.Error](explain("attach web", inner)); e.Kind != api.KindNotFound || e.Message != "attach web: no network x" || e.Hint != "h" {
		t.Errorf("got %+v", e)
	}
}
