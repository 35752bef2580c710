package rows

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/discovery"
)

func TestMemberRows(t *testing.T) {
	left := discovery.Header{Flags: discovery.FlagGone}
	rows := Members([]discovery.Member{
		{Name: "h1", Status: discovery.StatusAlive, Gossip: netip.MustParseAddrPort("192.0.2.1:4798")},
		{Name: "h2", Status: discovery.StatusDead, Header: discovery.Header{VTEP: netip.MustParseAddr("192.0.2.2")}},
		{Name: "h3", Status: discovery.StatusLeft, Header: left},
		{Name: "h4", Status: discovery.StatusDead},
	})
	got := ""
	for _, r := range rows {
		got += r.Name + "=" + r.Address + " "
	}
	if got != "h1=192.0.2.1 h2=192.0.2.2 h4= " {
		t.Errorf("got %q: h3 never was a member, and an address is one or empty", got)
	}
}
