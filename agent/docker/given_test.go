package docker

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Containers that never ran have no id of the network, and those without --ip no
// address of their own.
func TestGivenAddressesAreThoseOfAllContainers(t *testing.T) {
	var all []container.Summary
	if err := json.Unmarshal([]byte(`[
		{"Id":"c1","NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","IPAMConfig":{"IPv4Address":"10.50.0.7"},"IPAddress":"10.50.0.7"}}}},
		{"Id":"c2","NetworkSettings":{"Networks":{"blue":{"IPAMConfig":{"IPv4Address":"10.50.0.8"}},"bridge":{"IPAMConfig":{"IPv4Address":"172.17.0.9"}}}}},
		{"Id":"c3","NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","IPAMConfig":{},"IPAddress":"10.50.0.9"},"sky":null}}},
		{"Id":"c4"}]`), &all); err != nil {
		t.Fatal(err)
	}
	c := newFake().cluster
	c.Objects = map[string]string{"n1": "b1"}
	got := givenOf(c, map[string]string{"n1": "blue"}, all)
	slices.SortFunc(got, func(a, b Given) int { return cmp.Compare(a.Addr.String(), b.Addr.String()) })
	want := []Given{{"b1", netip.MustParseAddr("10.50.0.7")}, {"b1", netip.MustParseAddr("10.50.0.8")}}
	if diff := gocmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The agent hears of it when a container is removed.
func TestARemovedContainerLosesItsAddress(t *testing.T) {
	happened := make(chan events.Message)
	first := make(chan struct{})
	f := newFake()
	f.cluster.Networks = f.cluster.Networks[:1]
	f.cluster.Objects["n1"] = "b1"
	listed(t, f, `[{"Name":"blue","Id":"n1","Driver":"weft","Labels":{"weft":"1"}}]`, map[string]http.HandlerFunc{
		"GET /containers/json": func(w http.ResponseWriter, _ *http.Request) {
			select {
			case <-first:
				_, _ = w.Write([]byte(`[]`))
			default:
				_, _ = w.Write([]byte(`[{"Id":"c1","NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","IPAMConfig":{"IPv4Address":"10.50.0.7"}}}}}]`))
			}
		},
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case m := <-happened:
					_ = json.NewEncoder(w).Encode(m)
					w.(http.Flusher).Flush()
				}
			}
		},
	})
	await := func(want int) {
		t.Helper()
		for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			f.mu.Lock()
			got := len(f.given)
			f.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("%d addresses given, want %d", got, want)
			}
		}
	}
	await(1)
	close(first)
	happened <- events.Message{Type: events.ContainerEventType, Action: events.ActionDestroy, Actor: events.Actor{ID: "c1"}}
	await(0)
}
