package docker

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
)

// Whatever an engine answers is read without harm: a container's names are not
// repeated, its addresses are addresses, and a network of nobody's is no object.
func FuzzEngineAnswers(f *testing.F) {
	f.Add([]byte(`{"Name":"/web","Config":{"Hostname":"h"},"HostConfig":{"DNS":["192.0.2.1"]},"State":{"Health":{"Status":"healthy"}},
		"NetworkSettings":{"Networks":{"blue":{"EndpointID":"e1","Aliases":["www"],"DNSNames":["web"],"IPAddress":"10.50.0.7","IPAMConfig":{"IPv4Address":"10.50.0.7"}},"sky":null}}}`))
	f.Add([]byte(`[{"Id":"c1","NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","IPAMConfig":{"IPv4Address":"10.50.0.7"}}}}},{"NetworkSettings":null}]`))
	f.Add([]byte(declaredList))
	f.Add([]byte(`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"type":"weft","container":"c1"}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var one container.InspectResponse
		if json.Unmarshal(body, &one) == nil {
			k := newNames(t.Context(), nil, Agent{}, nil).get("c1")
			k.take(one)
			for endpoint, of := range k.endpoints {
				c := k.describe(of)
				slices.Sort(c.Aliases)
				if endpoint == "" || len(slices.Compact(slices.Clone(c.Aliases))) != len(c.Aliases) || slices.Contains(c.Aliases, c.Name) {
					t.Errorf("%s is %+v", endpoint, c)
				}
			}
		}
		cluster := newFake().cluster
		cluster.Objects = map[string]string{"n1": "b1"}
		var containers []container.Summary
		if json.Unmarshal(body, &containers) == nil {
			for _, g := range givenOf(cluster, map[string]string{"n1": "blue"}, containers) {
				if g.Network != "b1" || !g.Addr.IsValid() {
					t.Errorf("given %+v", g)
				}
			}
		}
		var networks []network.Summary
		if json.Unmarshal(body, &networks) == nil {
			fuzzNetworks(t, cluster, networks)
		}
		var m events.Message
		if json.Unmarshal(body, &m) == nil && m.Actor.ID == "" && m.Actor.Attributes["container"] == "" {
			e := newEngine(Agent{}, nil)
			e.names = newNames(t.Context(), nil, Agent{}, nil)
			if e.event(m); len(e.names.all) > 0 {
				t.Errorf("%+v is of a container", m)
			}
		}
	})
}

// fuzzNetworks reads networks as sync does, without asking the engine.
func fuzzNetworks(t *testing.T, c Cluster, all []network.Summary) {
	s := syncing{cluster: c, list: all, objects: map[string]string{}}
	for _, n := range all {
		if of, ok := s.alike(n); ok && of.ID == "" {
			t.Errorf("%+v is like no network", n)
		}
		if got := summarized(n); got.Labels[ourLabel] != "" || got.Options[networkOption] != "" || len(got.Subnets) != len(n.IPAM.Config) {
			t.Errorf("%+v is asked for as %+v", n, got)
		}
		s.borrowed(n)
	}
	for _, p := range append(s.problems, stranded(all)...) {
		if strings.TrimSpace(p) == "" {
			t.Error("a problem without words")
		}
	}
}
