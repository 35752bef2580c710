package rows

import (
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
)

func TestMembersShowTheWorstProof(t *testing.T) {
	now := time.Now()
	one, two, three := discovery.HostID{1}, discovery.HostID{2}, discovery.HostID{3}
	members := []api.Member{{ID: one.String()}, {ID: two.String()}, {ID: three.String()}}
	Tunnels(members, []tunnel.Proof{
		{Peer: two, Alive: true, Out: tunnel.OK, In: tunnel.Failing, Size: tunnel.OK, At: now.Add(-4 * time.Second)},
		{Peer: three, Out: tunnel.OK, In: tunnel.OK, Size: tunnel.OK, At: now.Add(-time.Hour)},
	}, now)
	if members[0].Tunnel != "" || members[1].Tunnel != "failing" || members[1].TunnelAge != 4 || members[2].Tunnel != "" {
		t.Errorf("this host, one that fails, one that is dead: %+v", members)
	}
}

func TestProofsAreInMicroseconds(t *testing.T) {
	got := Proofs([]tunnel.Proof{{Name: "h2", Out: tunnel.OK, In: tunnel.Unproven, Last: 120 * time.Microsecond, Worst: time.Millisecond}})
	if len(got) != 1 || got[0].Peer != "h2" || got[0].Out != "ok" || got[0].In != "unproven" || got[0].Last != 120 || got[0].Worst != 1000 {
		t.Errorf("%+v", got)
	}
}
