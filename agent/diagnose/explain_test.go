package diagnose

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/overlay"
)

func TestErrorsHaveAKindAndAHint(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind api.Kind
	}{
		{pool.ErrPermission, api.KindPermission},
		{discovery.ErrStoreAway, api.KindFailed},
		{discovery.ErrFull, api.KindConflict},
		{membership.ErrOtherMachine, api.KindConflict},
		{ipam.ErrOutside, api.KindMisuse},
		{overlay.ErrNoNFT, api.KindFailed},
		{fs.ErrPermission, api.KindPermission},
		{pool.ErrNotFound, api.KindNotFound},
	} {
		e, ok := errors.AsType[*api.Error](Explain("attach web", tt.err))
		if !ok || e.Kind != tt.kind || e.Hint == "" || !strings.HasPrefix(e.Message, "attach web: ") {
			t.Errorf("%v: got %+v, want kind %s with a hint", tt.err, e, tt.kind)
		}
	}
	foreign := overlay.ForeignDevice(overlay.LinkKey{Place: overlay.Host, Name: "g001000"}, "veth")
	if e, _ := errors.AsType[*api.Error](Explain("attach web", foreign)); e.Kind != api.KindConflict || !strings.HasPrefix(e.Hint, "ip -d link show g001000 #") ||
		e.Message != "attach web: g001000 is a veth: it is not weft's, which needs the name" {
		t.Errorf("got %+v", e)
	}
	if Explain("attach", nil) != nil {
		t.Error("no error became one")
	}
	inner := api.Errorf(api.KindNotFound, "no network x").WithHint("h")
	if e, _ := errors.AsType[*api.Error](Explain("attach web", inner)); e.Kind != api.KindNotFound || e.Message != "attach web: no network x" || e.Hint != "h" {
		t.Errorf("got %+v", e)
	}
}

// An address that no endpoint is announced with is a stopped container's: the endpoints
// do not show it.
func TestATakenAddressIsShownWhereItIs(t *testing.T) {
	for _, tt := range []struct{ name, want string }{{"web", "agentctl endpoint ls"}, {"", "docker ps -a # on h1"}} {
		err := ExplainTo(discovery.View{}, "attach web", &ipam.TakenError{HostName: "h1", Name: tt.name})
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Kind != api.KindConflict || !strings.HasPrefix(e.Hint, tt.want) {
			t.Errorf("%q: got %+v, want %q", tt.name, err, tt.want)
		}
	}
}
