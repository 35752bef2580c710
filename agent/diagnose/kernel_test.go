package diagnose

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

func TestKernelCheckNamesEachObject(t *testing.T) {
	if c := kernel(Facts{Endpoints: 3, Active: 1}); c.State != api.CheckOK || c.Detail != "3 endpoints here, 1 networks carried" {
		t.Errorf("nothing refused: got %+v", c)
	}
	since := time.Date(2026, 1, 2, 10, 4, 5, 0, time.UTC)
	route := overlay.Route{Dst: netip.MustParsePrefix("10.64.0.0/24"), Dev: "g001000", Src: netip.MustParseAddr("10.64.0.1")}
	all := []overlay.Trouble{
		{Err: &overlay.ObjectError{Object: route, Err: syscall.EEXIST}, Since: since, Tries: 4},
		{Err: &overlay.ObjectError{Object: overlay.Link{Name: "v001000"}, Err: overlay.ErrPortTaken}, Since: since, Tries: 1},
	}
	for i := range 2 * shown {
		all = append(all, overlay.Trouble{Err: fmt.Errorf("reason %d", i), Tries: 1})
	}
	c := kernel(Facts{Troubles: all})
	first, _, _ := strings.Cut(c.Detail, "; ")
	if want := route.String() + ": file exists (tried 4 times since 10:04:05)"; first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	if c.State != api.CheckFail || !strings.HasSuffix(c.Detail, fmt.Sprintf("; %d more", len(all)-shown)) {
		t.Errorf("got %+v", c)
	}
	hints := strings.Split(c.Hint, "\n")
	if len(hints) != 3 || !strings.HasPrefix(hints[0], "ip route show 10.64.0.0/24 ") || !strings.HasPrefix(hints[1], "ss -lunp ") {
		t.Errorf("hints: %q, want one for each kind", hints)
	}
}
