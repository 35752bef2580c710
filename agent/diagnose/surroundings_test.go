package diagnose

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

func TestRouteOfAVPNIsNamed(t *testing.T) {
	self := discovery.HostID{1}
	f := Facts{View: discovery.View{Self: self, Endpoints: []discovery.Record{
		{Host: self, Endpoint: discovery.Endpoint{Name: "web", IPv4: netip.MustParseAddr("10.70.0.5")}},
		{Host: self, Endpoint: discovery.Endpoint{Name: "db", IPv4: netip.MustParseAddr("10.70.0.200")}},
		{Host: discovery.HostID{2}, Endpoint: discovery.Endpoint{Name: "far", IPv4: netip.MustParseAddr("10.70.0.6")}},
	}}}
	if c := routes(f); c.State != api.CheckOK {
		t.Errorf("nothing in the way: %+v", c)
	}
	route := func(dst string, table uint32) overlay.Overlap {
		return overlay.Overlap{Network: "blue", Subnet: netip.MustParsePrefix("10.70.0.0/24"), Taken: true,
			Route: overlay.ForeignRoute{Dst: netip.MustParsePrefix(dst), Dev: "tun0", Table: table}}
	}
	for _, tt := range []struct {
		route overlay.Overlap
		state string
		says  []string
		hint  string
	}{
		{route("10.70.0.0/25", overlay.MainTable), api.CheckFail, []string{"10.70.0.0/25 dev tun0", "network blue", "egress", "of web 10.70.0.5"}, "ip route del 10.70.0.0/25 dev tun0 #"},
		{route("10.70.0.64/26", overlay.MainTable), api.CheckWarn, []string{"10.70.0.64/26 dev tun0", "network blue"}, "ip route del 10.70.0.64/26 dev tun0 #"},
		{route("10.0.0.0/8", 52), api.CheckFail, []string{"10.0.0.0/8 dev tun0 table 52", "of 10.70.0.0/24 are cut", "web 10.70.0.5, db 10.70.0.200"}, "ip route del 10.0.0.0/8 dev tun0 table 52 #"},
		{route("0.0.0.0/0", 51820), api.CheckFail, []string{"table 51820"}, "ip rule show #"},
	} {
		f.Surroundings.Routes = []overlay.Overlap{tt.route}
		c := routes(f)
		if c.State != tt.state || !strings.HasPrefix(c.Hint, tt.hint) || strings.Contains(c.Detail, "far") {
			t.Errorf("%s: got %+v", tt.route.Route, c)
		}
		for _, part := range tt.says {
			if !strings.Contains(c.Detail, part) {
				t.Errorf("%s: %q is not in %q", tt.route.Route, part, c.Detail)
			}
		}
	}
}
