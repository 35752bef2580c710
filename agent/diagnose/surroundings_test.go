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

func TestForeignFilterIsNamed(t *testing.T) {
	if c := filters(Facts{}); c.State != api.CheckOK {
		t.Errorf("nothing in the way: %+v", c)
	}
	f := Facts{Surroundings: overlay.Surroundings{Filters: []overlay.ForeignFilter{
		{Family: "inet", Table: "fw", Chain: "forward", Policy: true, Drops: []string{"egress", "answers to it", "published ports"}},
		{Family: "inet", Table: "firewalld", Chain: "filter_FORWARD", Drops: []string{"egress"}},
	}}}
	c := filters(f)
	for _, part := range []string{"chain inet fw forward", "drops egress, answers to it and published ports by its policy", "chain inet firewalld filter_FORWARD", "drops egress by a rule"} {
		if !strings.Contains(c.Detail, part) {
			t.Errorf("%q is not in %q", part, c.Detail)
		}
	}
	for _, line := range []string{"nft insert rule inet fw forward meta iifgroup 0x4f56 accept", "nft insert rule inet fw forward meta oifgroup 0x4f56 accept #", "firewall-cmd --reload"} {
		if !strings.Contains(c.Hint, line) {
			t.Errorf("%q is not in %q", line, c.Hint)
		}
	}
	if c.State != api.CheckFail {
		t.Errorf("state %s", c.State)
	}
}

func TestFullNeighbourTableIsNamed(t *testing.T) {
	arp := func(entries, permanent int, full bool) []Neighbours {
		return []Neighbours{{NeighbourTable: overlay.NeighbourTable{Name: "arp_cache", Entries: entries, Limit: 1024}, Permanent: permanent, Full: full}}
	}
	const line = "sysctl -w net.ipv4.neigh.default.gc_thresh3=16384 #"
	for name, tt := range map[string]struct {
		tables []Neighbours
		state  string
		says   string
	}{
		"room":                {arp(818, 0, false), api.CheckOK, "room"},
		"four fifths":         {arp(820, 0, false), api.CheckWarn, "arp_cache has 820 entries of at most 1024"},
		"permanent ones only": {arp(5000, 4900, false), api.CheckOK, "room"},
		"full":                {arp(1024, 0, true), api.CheckFail, "arp_cache is full: 1024 entries of at most 1024"},
	} {
		c := NeighbourTables(tt.tables)
		if c.State != tt.state || !strings.Contains(c.Detail, tt.says) || strings.HasPrefix(c.Hint, line) != (tt.state != api.CheckOK) {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}
