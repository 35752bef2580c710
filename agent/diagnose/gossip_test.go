package diagnose

import (
	"strings"
	"testing"

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
			c := datagrams(Facts{GossipPort: 4798, View: view, Losses: tt.losses})
			if tt.want == "" && c.State != api.CheckOK || tt.want != "" && (c.State != api.CheckFail || !strings.Contains(c.Detail, tt.want) || c.Hint == "") {
				t.Errorf("got %+v, want %q", c, tt.want)
			}
		})
	}
}
