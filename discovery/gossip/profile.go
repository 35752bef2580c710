package gossip

import (
	"bytes"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// profile is what depends on the distance between the members.
type profile struct {
	stretch int // of our own periods
	config  func() *memberlist.Config
}

func profileOf(name string) profile {
	if name == "wan" {
		return profile{stretch: 2, config: memberlist.DefaultWANConfig}
	}
	return profile{stretch: 1, config: lanConfig}
}

// lanConfig finds a dead host within 15 s also when few are left to confirm
// it, or half of the cluster is gone: memberlist's defaults wait six times as
// long without confirmations, and probe eight times slower when indirect
// probes fail. The least time, 4 s, still rides out an agent's restart.
//
// A broadcast is sent RetransmitMult*ceil(log10(N+1)) times and then forgotten,
// received by all or not. With memberlist's 4 one join in fifty is missed by a
// member of a cluster of five, until the next push and pull: so it is sent
// twice as often, and the tables of members are compared three times as often.
func lanConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.SuspicionMaxTimeoutMult = 2
	c.AwarenessMaxMultiplier = 2
	c.RetransmitMult = 8
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = 5 * time.Second
	return c
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
