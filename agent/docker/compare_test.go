package docker

import (
	"context"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
)

// comparing is an agent that must not be handed a list.
type comparing struct {
	*fake
	t *testing.T
}

func (c comparing) Compare(context.Context, time.Time, map[string]bool) ([]string, bool) {
	c.t.Error("endpoints were compared with a list that nobody made")
	return nil, false
}

// A host that was taken out of the cluster lists no networks: its containers
// go on.
func TestNothingIsComparedBeforeNetworksWereListed(t *testing.T) {
	newEngine(agentOf(comparing{newFake(), t}), slog.New(slog.DiscardHandler)).compare(t.Context())
}

// Docker lists a network after it has asked for it: only one that no list shows
// for long is gone.
func TestANetworkThatIsJustMadeIsNotDropped(t *testing.T) {
	f := newFake()
	f.cluster.Objects["d1"] = "b1"
	e := newEngine(agentOf(f), slog.New(slog.DiscardHandler))
	list := func(all ...network.Summary) bool {
		s := syncing{engine: e, cluster: Cluster{Objects: maps.Clone(f.cluster.Objects)}, list: all}
		return s.forgetVanished()
	}
	d1 := network.Summary{Network: network.Network{ID: "d1"}}
	long := func() { // ago since it was missed
		for id := range e.vanished {
			e.vanished[id] = e.vanished[id].Add(-syncAgain)
		}
	}
	for range 2 {
		if !list() || f.cluster.Objects["d1"] == "" {
			t.Error("dropped at once")
		}
	}
	long()
	if list(d1); !list() || f.cluster.Objects["d1"] == "" {
		t.Error("dropped although it was listed in between")
	}
	long()
	if list() || f.cluster.Objects["d1"] != "" {
		t.Error("kept although it is missing for long")
	}
}
