package membership

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// A host whose agent is down is not taken out from under what runs on it.
func TestHostOnWhichEndpointsRunIsNotTakenOut(t *testing.T) {
	host := discovery.HostID{2}
	view := func(st discovery.MemberStatus, runtime string) discovery.View {
		return discovery.View{
			Members:   []discovery.Member{{ID: host, Name: "host2", Status: st}},
			Endpoints: []discovery.Record{{Endpoint: discovery.Endpoint{Name: "web", Runtime: runtime}, Host: host}},
		}
	}
	for _, tt := range []struct {
		name string
		view discovery.View
		want string
	}{
		{"agent down, a container", view(discovery.StatusAgentDown, discovery.RuntimeDocker), "web"},
		{"agent down, its own address only", view(discovery.StatusAgentDown, discovery.RuntimeHost), ""},
		{"dead", view(discovery.StatusDead, discovery.RuntimeDocker), ""},
	} {
		dead, err := deadMembers(tt.view, "host2", false)
		if err != nil || len(dead) != 1 {
			t.Fatalf("%s: %v, %v", tt.name, dead, err)
		}
		err = checkNothingRuns(tt.view, dead)
		if tt.want == "" && err != nil || tt.want != "" && (api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// namesake is a pool and a gossip with another host of this host's name.
type namesake struct {
	Records
	Directory
	cluster string
	other   pool.Host
	status  discovery.MemberStatus
}

func (n namesake) Meta(context.Context) (pool.Meta, error) {
	return pool.Meta{ClusterID: n.cluster}, nil
}

func (n namesake) Hosts(context.Context) ([]pool.Host, error) { return []pool.Host{n.other}, nil }

func (n namesake) View() discovery.View {
	return discovery.View{Members: []discovery.Member{{ID: n.other.ID, Name: n.other.Name, Status: n.status}}}
}

// A host that was taken out asks before it gives anything up whether another one has
// its name.
func TestNameOfALivingHostMayNotBeReplaced(t *testing.T) {
	m, _ := kept(t)
	m.cfg.Advertise = netip.MustParseAddr("192.0.2.1")
	other := pool.Host{ID: discovery.HostID{2}, Name: "host1", VTEP: netip.MustParseAddr("192.0.2.2"), Gossip: netip.MustParseAddrPort("127.0.0.1:1")}
	for _, tt := range []struct {
		name string
		at   namesake
		want string
	}{
		{"alive", namesake{cluster: "c1", other: other, status: discovery.StatusAlive}, "not dead"},
		{"dead, and its kernel answers", namesake{cluster: "c1", other: other}, "not dead"},
		{"at another cluster's store", namesake{cluster: "c2", other: other}, "the store holds cluster c2"},
		{"of another name", namesake{cluster: "c1", other: pool.Host{ID: other.ID, Name: "host2"}}, ""},
		{"itself", namesake{cluster: "c1", other: m.Record()}, ""},
	} {
		m.Use(tt.at, tt.at)
		err := MayReplace(t.Context(), m)
		if tt.want == "" && err != nil || tt.want != "" && (api.KindOf(err) != api.KindConflict || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
