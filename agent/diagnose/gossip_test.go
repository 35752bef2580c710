package diagnose

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
)

func TestLostDatagramsNameHostDirectionAndPort(t *testing.T) {
	a, b, self := discovery.HostID{1}, discovery.HostID{2}, discovery.HostID{3}
	view := discovery.View{Self: self, Members: []discovery.Member{{ID: a, Name: "db1"}, {ID: b, Name: "db2"}, {ID: self, Name: "here"}}}
	for _, tt := range []struct {
		name   string
		losses []gossip.Loss
		want   string
	}{
		{"none", nil, ""},
		{"from one member", []gossip.Loss{{Member: a}}, "no datagrams come to udp port 4798 from db1"},
		{"to one member", []gossip.Loss{{Member: b, Heard: true}}, "datagrams of this host do not reach udp port 4798 of db2"},
		{"each way", []gossip.Loss{{Member: a}, {Member: b, Heard: true}}, "do not reach udp port 4798 of db2; no datagrams come to udp port 4798 from db1"},
		{"into this host", []gossip.Loss{{Member: a, All: true}, {Member: b, All: true}}, "reaches udp port 4798 of this host (here)"},
		{"out of this host", []gossip.Loss{{Member: a, All: true, Heard: true}, {Member: b, All: true, Heard: true}}, "datagrams of this host (here) reach udp port 4798 of no member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := datagrams(Facts{GossipPort: 4798, View: view, Gossip: gossip.Trouble{Losses: tt.losses}})
			if tt.want == "" && c.State != api.CheckOK || tt.want != "" && (c.State != api.CheckFail || !strings.Contains(c.Detail, tt.want) || c.Hint == "") {
				t.Errorf("got %+v, want %q", c, tt.want)
			}
		})
	}
}

func TestStrangersAreNamedWithTheirCounts(t *testing.T) {
	c := strangers(Facts{GossipPort: 4798})
	if c.State != api.CheckOK || !strings.Contains(c.Detail, "4798") {
		t.Errorf("none: %+v", c)
	}
	at := time.Date(2026, 1, 2, 10, 22, 7, 0, time.UTC)
	all := []gossip.Stranger{{From: netip.MustParseAddr("198.51.100.66"), Times: 412, Last: at}}
	for i := range 9 {
		all = append(all, gossip.Stranger{From: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), Times: 2, Last: at})
	}
	c = strangers(Facts{GossipPort: 4798, Gossip: gossip.Trouble{Strangers: all}})
	for _, want := range []string{"refused 430 ", "port 4798", "198.51.100.66 412 times, last at 10:22:07", "5 more addresses"} {
		if !strings.Contains(c.Detail, want) {
			t.Errorf("%q lacks %q", c.Detail, want)
		}
	}
	if c.State != api.CheckWarn || !strings.HasPrefix(c.Hint, "ss -tn dst 198.51.100.66 #") {
		t.Errorf("%+v", c)
	}
}
