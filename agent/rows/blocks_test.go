package rows_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/rows"
	"github.com/weft-net/weft/discovery"
)

func TestNetworkSaysWhoHandsOutWhat(t *testing.T) {
	p := netip.MustParsePrefix
	n := discovery.Network{ID: discovery.NetworkID{1}, Name: "blue", Subnets: []discovery.Subnet{
		{CIDR: p("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")}, {CIDR: p("2001:db8::/120"), Gateway: netip.MustParseAddr("2001:db8::1")}}}
	other := discovery.HeaderNetwork{ID: discovery.NetworkID{2}, Blocks: []netip.Prefix{p("192.0.2.128/27")}}
	v := discovery.View{Members: []discovery.Member{
		{Name: "h1", Header: discovery.Header{Networks: []discovery.HeaderNetwork{other, {ID: n.ID, Blocks: []netip.Prefix{p("192.0.2.0/27"), p("192.0.2.64/27"), p("2001:db8::/124")}}}}},
		{Name: "h2", Header: discovery.Header{Networks: []discovery.HeaderNetwork{{ID: n.ID, Blocks: []netip.Prefix{p("192.0.2.32/27")}}}}},
		{Name: "h3"},
	}}
	config := rows.Network(n, v, netip.Addr{}).IPAM.Config
	if d := cmp.Diff([]map[string][]string{{"h1": {"192.0.2.0/27", "192.0.2.64/27"}, "h2": {"192.0.2.32/27"}}, {"h1": {"2001:db8::/124"}}},
		[]map[string][]string{config[0].Blocks, config[1].Blocks}); d != "" {
		t.Error(d)
	}
	if config[0].Addresses != 253 || config[1].Addresses != 254 {
		t.Errorf("%d and %d addresses, want 253 and 254", config[0].Addresses, config[1].Addresses)
	}
}
