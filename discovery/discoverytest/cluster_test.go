package discoverytest_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
)

// TestClusterFollowsTheClock: under synctest, hosts meet, tell each other of an
// endpoint, lose each other and meet again, in no time.
func TestClusterFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := discoverytest.New(time.Now(), 1)
		var nodes []*discoverytest.Node
		for i := range 3 {
			n, err := c.Start(discoverytest.Config{Self: discovery.HostID{byte(i + 1)}, Incarnation: 1,
				Header: discovery.Header{Name: string(rune('a' + i))},
				Serve:  func(_ discovery.HostID, b []byte) []byte { return append(b, '!') }})
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go nodes[0].Run(ctx)
		if members, err := nodes[1].Join(ctx, nil, nil); err != nil || len(members) != 3 {
			t.Fatalf("joined %d members, %v; want 3", len(members), err)
		}
		id := discovery.EndpointID{7}
		nodes[1].Announce([]discovery.Endpoint{{ID: id, Network: discovery.NetworkID{1}, IPv4: netip.MustParseAddr("10.42.0.2"), MAC: discovery.MAC{2, 5: 2}, Name: "web"}}, nil)
		for len(nodes[2].View().Endpoints) == 0 {
			<-nodes[2].Changes()
		}
		if got, err := nodes[0].Call(ctx, discovery.HostID{2}, []byte("hi")); err != nil || string(got) != "hi!" {
			t.Errorf("call: %q, %v", got, err)
		}
		c.Cut([]discovery.HostID{{2}})
		time.Sleep(discoverytest.Detection + time.Second)
		if r := nodes[2].View().Endpoints[0]; !r.Hidden || r.Status != discovery.EndpointSuspended {
			t.Errorf("cut off: status %v, hidden %v", r.Status, r.Hidden)
		}
		c.Heal()
		time.Sleep(2 * discoverytest.Reunion)
		if r := nodes[2].View().Endpoints[0]; r.Hidden || r.Status != discovery.EndpointLive {
			t.Errorf("healed: status %v, hidden %v", r.Status, r.Hidden)
		}
	})
}
