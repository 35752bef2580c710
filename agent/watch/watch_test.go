package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
)

var (
	self  = discovery.HostID{1}
	other = discovery.HostID{2}
	start = time.Unix(1_000_000, 0)
)

// seen runs a watcher over views, a second apart, and returns what it said of each.
func seen(views ...discovery.View) (said [][]string) {
	w := Watcher{Network: func(discovery.NetworkID) string { return "blue" }}
	w.Sink = func(e event.Event) {
		said[len(said)-1] = append(said[len(said)-1], fmt.Sprint(e.Kind, " ", e.Subject, " ", e.Addr))
	}
	for i, v := range views {
		said = append(said, nil)
		v.Self = self
		w.See(v, v.Complete, start.Add(time.Duration(i)*time.Second))
	}
	return said
}

func members(all ...discovery.Member) discovery.View {
	return discovery.View{Complete: true, Members: append([]discovery.Member{{ID: self, Name: "h1", Status: discovery.StatusAlive}}, all...)}
}

func h2(s discovery.MemberStatus) discovery.Member {
	return discovery.Member{ID: other, Name: "h2", Status: s, Header: discovery.Header{VTEP: netip.MustParseAddr("192.0.2.2")}}
}

func TestMembersComeAndGo(t *testing.T) {
	starting := members(h2(discovery.StatusDead))
	starting.Complete = false
	got := seen(starting, // found again after a start: no news
		members(h2(discovery.StatusAlive)),
		members(h2(discovery.StatusSuspect)),
		members(h2(discovery.StatusAlive)),
		members(h2(discovery.StatusSuspect)),
		members(h2(discovery.StatusDead)),
		members(h2(discovery.StatusAlive)),
		members(h2(discovery.StatusAgentDown)),
		members(h2(discovery.StatusAlive)),
		members(h2(discovery.StatusLeft)),
		members(),
		members(h2(discovery.StatusAlive)),
		members(),
	)
	want := []string{"", "", "", "", "", "member-dead h2 192.0.2.2", "member-alive h2 192.0.2.2", "agent-down h2 192.0.2.2", "member-alive h2 192.0.2.2",
		"member-left h2 192.0.2.2", "", "member-joined h2 192.0.2.2", "member-left h2 192.0.2.2"}
	for i, w := range want {
		if w == "" && len(got[i]) > 0 || w != "" && !slices.Equal(got[i], []string{w}) {
			t.Errorf("view %d: %q, want %q", i, got[i], w)
		}
	}
}

func records(all ...discovery.Record) discovery.View {
	v := members(h2(discovery.StatusAlive))
	v.Endpoints = all
	return v
}

func record(id byte, host discovery.HostID, addr string) discovery.Record {
	return discovery.Record{Host: host, Endpoint: discovery.Endpoint{ID: discovery.EndpointID{id}, Network: discovery.NetworkID{7}, Name: fmt.Sprint("e", id), IPv4: netip.MustParseAddr(addr)}}
}

func TestAnAddressThatMovesHere(t *testing.T) {
	beaten := record(1, self, "10.64.0.5")
	beaten.Conflicted = true
	for name, tt := range map[string]struct {
		views []discovery.View
		want  string // of the last view
	}{
		"given up there, begun here":   {[]discovery.View{records(record(1, other, "10.64.0.5")), records(), records(record(2, self, "10.64.0.5"))}, "endpoint-moved e2 10.64.0.5"},
		"at once":                      {[]discovery.View{records(record(1, other, "10.64.0.5")), records(record(2, self, "10.64.0.5"))}, "endpoint-moved e2 10.64.0.5"},
		"still announced there":        {[]discovery.View{records(record(1, other, "10.64.0.5")), records(record(1, other, "10.64.0.5"), record(2, self, "10.64.0.5"))}, "endpoint-moved e2 10.64.0.5"},
		"another address":              {[]discovery.View{records(record(1, other, "10.64.0.5")), records(record(2, self, "10.64.0.6"))}, ""},
		"to another host":              {[]discovery.View{records(record(1, self, "10.64.0.5")), records(record(2, other, "10.64.0.5"))}, ""},
		"back and forth, not new here": {[]discovery.View{records(record(1, self, "10.64.0.5")), records(record(1, self, "10.64.0.5"))}, ""},
		"beaten":                       {[]discovery.View{records(record(1, self, "10.64.0.5")), records(beaten)}, "conflict e1 10.64.0.5"},
		"beaten from the first moment": {[]discovery.View{records(), records(beaten)}, "conflict e1 10.64.0.5"},
		"beaten before and now":        {[]discovery.View{records(beaten), records(beaten, record(3, other, "10.64.0.9"))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := seen(append([]discovery.View{records()}, tt.views...)...)
			if last := got[len(got)-1]; tt.want == "" && len(last) > 0 || tt.want != "" && !slices.Equal(last, []string{tt.want}) {
				t.Errorf("%q, want %q", last, tt.want)
			}
		})
	}
}

// What is remembered of addresses stays bounded.
func TestFewAddressesAreRemembered(t *testing.T) {
	w := Watcher{Network: func(discovery.NetworkID) string { return "" }}
	v := members(h2(discovery.StatusAlive))
	v.Self = self
	w.See(v, true, start)
	for i := range 3 * mostGone {
		r := record(1, other, netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}).String())
		v.Endpoints = []discovery.Record{r}
		w.See(v, true, start)
		v.Endpoints = nil
		w.See(v, true, start)
	}
	if len(w.gone) > mostGone {
		t.Errorf("%d", len(w.gone))
	}
}
