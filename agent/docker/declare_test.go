package docker

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/agent/api"
)

// The calls are those of dockerd 20.10 for docker network create with --subnet,
// --ip-range, --gateway and --aux-address, and then of a container.
func TestANetworkThatDockerMakesIsCheckedAndRemembered(t *testing.T) {
	f := newFake()
	h := newHandler(f)
	for _, c := range []struct{ method, body, want string }{
		{"IpamDriver.RequestPool", `{"AddressSpace":"weft","Pool":"172.28.0.0/16","SubPool":"172.28.5.0/24","Options":null,"V6":false}`,
			`{"PoolID":"172.28.0.0/16","Pool":"172.28.0.0/16","Data":{}}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"172.28.0.0/16","Address":"172.28.5.254","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
			`{"Address":"172.28.5.254/16","Data":{}}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"172.28.0.0/16","Address":"172.28.5.9","Options":null}`, `{"Address":"172.28.5.9/16","Data":{}}`},
		{"NetworkDriver.CreateNetwork", `{"NetworkID":"d1","Options":{"com.docker.network.generic":{"com.docker.network.driver.mtu":"1200"}},
			"IPv4Data":[{"AddressSpace":"weft","Gateway":"172.28.5.254/16","Pool":"172.28.0.0/16","AuxAddresses":{"nas":"172.28.5.9/16"}}],"IPv6Data":[]}`, `{}`},
	} {
		if code, got := post(h, c.method, c.body); code != http.StatusOK || got != c.want {
			t.Fatalf("%s %s\n got %d %s\nwant %s", c.method, c.body, code, got, c.want)
		}
	}
	if len(f.cluster.Objects) > 0 || f.cluster.Declared["d1"] != "172.28.0.0/16" {
		t.Fatalf("objects %v, declared %v", f.cluster.Objects, f.cluster.Declared)
	}
	if code, got := post(h, "IpamDriver.RequestPool", `{"Pool":"172.28.0.0/16"}`); code == http.StatusOK || !strings.Contains(got, "not in the cluster yet") {
		t.Errorf("the subnet once more: %d %s", code, got)
	}
	// The container that compose starts at once waits until the cluster has it.
	answer := make(chan string)
	go func() {
		_, got := post(h, "IpamDriver.RequestAddress", `{"PoolID":"172.28.0.0/16","Address":"","Options":null}`)
		answer <- got
	}()
	n := Network{Name: "br0", Subnets: []Subnet{{CIDR: netip.MustParsePrefix("172.28.0.0/16")}}}
	if err := f.Create(t.Context(), "d1", n); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.HasPrefix(got, `{"Address":"10.50.0.10/24"`) {
		t.Errorf("a container at once: %s", got)
	}
	post(h, "NetworkDriver.DeleteNetwork", `{"NetworkID":"d1"}`)
	if code, got := post(h, "IpamDriver.RequestAddress", `{"PoolID":"172.28.0.0/16","Address":"","Options":null}`); code == http.StatusOK || !strings.Contains(got, "agentctl network ls") {
		t.Errorf("after its end: %d %s", code, got)
	}
}

// Without --subnet each network gets one of its own, also when two are made at once,
// and an engine that likes none is stopped.
func TestANetworkWithoutASubnetGetsOne(t *testing.T) {
	h := newHandler(newFake())
	seen := map[string]bool{}
	for i := range mostOffers {
		code, got := post(h, "IpamDriver.RequestPool", `{"Pool":"","Options":null}`)
		var a poolAnswer
		if err := json.Unmarshal([]byte(got), &a); err != nil || code != http.StatusOK || seen[a.Pool] || a.PoolID != a.Pool {
			t.Fatalf("request %d: %d %s", i, code, got)
		}
		seen[a.Pool] = true
	}
	if code, got := post(h, "IpamDriver.RequestPool", `{"Pool":""}`); code == http.StatusOK || !strings.Contains(got, "--subnet CIDR NAME") {
		t.Errorf("asked for ever: %d %s", code, got)
	}
	for p := range seen {
		post(h, "IpamDriver.ReleasePool", fmt.Sprintf(`{"PoolID":%q}`, p))
	}
	if code, got := post(h, "IpamDriver.RequestPool", `{"Pool":""}`); code != http.StatusOK {
		t.Errorf("all given back: %d %s", code, got)
	}
}

// What cannot be had is refused with a line that can be typed, and that asks for what
// was asked for but for what cannot be had.
func TestARefusedNetworkComesWithTheLineThatWorks(t *testing.T) {
	create := func(options, data string) string {
		return fmt.Sprintf(`{"NetworkID":"d1","Options":%s,"IPv4Data":[%s],"IPv6Data":[]}`, options, data)
	}
	local := `{"AddressSpace":"LocalDefault","Pool":"172.18.0.0/16","Gateway":"172.18.0.1/16"}`
	for _, c := range []struct{ what, method, body, want string }{
		{"Docker's IPAM", "NetworkDriver.CreateNetwork", create(`{}`, local), "(hint: docker network create -d weft --ipam-driver weft NAME # in a compose file: ipam: {driver: weft})"},
		{"Docker's IPAM, with settings", "NetworkDriver.CreateNetwork",
			create(`{"com.docker.network.internal":true,"com.docker.network.generic":{"com.docker.network.driver.mtu":"1300","host_access":"none"}}`, local),
			"(hint: docker network create -d weft --ipam-driver weft --internal -o host_access=none -o mtu=1300 NAME #"},
		{"two subnets", "NetworkDriver.CreateNetwork", create(`{}`, `{"AddressSpace":"weft","Pool":"10.70.0.0/24"},{"AddressSpace":"weft","Pool":"10.71.0.0/24"}`),
			"(hint: docker network create -d weft --ipam-driver weft NAME)"},
		{"an unknown option", "NetworkDriver.CreateNetwork", create(`{"com.docker.network.generic":{"colour":"red"}}`, `{"AddressSpace":"weft","Pool":"10.70.0.0/24"}`),
			"(hint: docker network create -d weft --ipam-driver weft NAME)"},
		{"over another", "IpamDriver.RequestPool", `{"Pool":"10.50.0.0/16"}`, "overlaps network blue (hint: docker network create -d weft --ipam-driver weft NAME)"},
		{"no subnet at all", "IpamDriver.RequestPool", `{"Pool":"10.70.0.0"}`, "(hint: docker network create -d weft --ipam-driver weft NAME)"},
		{"settings of another", "NetworkDriver.CreateNetwork", create(`{"com.docker.network.generic":{"com.docker.network.driver.mtu":"1300"}}`, `{"AddressSpace":"weft","Pool":"10.50.0.0/24"}`),
			"-o mtu=1300: network blue has 1400 (hint: docker network create -d weft --ipam-driver weft --ipam-opt network=blue -o network=blue --subnet 10.50.0.0/24 NAME # leave it out)"},
	} {
		code, got := post(newHandler(newFake()), c.method, c.body)
		var f failure
		if err := json.Unmarshal([]byte(got), &f); err != nil || code == http.StatusOK || !strings.Contains(f.Err, c.want) {
			t.Errorf("%s:\n got %d %s\nwant an error with %s", c.what, code, f.Err, c.want)
		}
	}
}

// listed is an engine whose networks are text, followed by f until each is looked at.
func listed(t *testing.T, f *fake, text string, more map[string]http.HandlerFunc) *engine {
	t.Helper()
	answers := map[string]http.HandlerFunc{"GET /version": saying(`{"Version":"20.10.24"}`), "GET /networks": saying(text),
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}}
	for k, v := range more {
		answers[k] = v
	}
	e, _ := following(t, f, answering(t, answers))
	return e
}

const declaredList = `[{"Name":"shop_backend","Id":"n7","Driver":"weft","Internal":true,"Labels":{"team":"a"},
	"Options":{"com.docker.network.driver.mtu":"1200"},
	"IPAM":{"Driver":"weft","Config":[{"Subnet":"10.97.0.0/24","IPRange":"10.97.0.128/25","Gateway":"10.97.0.254","AuxiliaryAddresses":{"nas":"10.97.0.9"}}]}}]`

// The cluster gets a network of the name, labels and settings that the engine lists.
func TestTheClusterGetsTheNetworkThatTheEngineLists(t *testing.T) {
	f := newFake()
	f.cluster.Networks = nil
	f.cluster.Declared = map[string]string{"n7": "10.97.0.0/24"}
	listed(t, f, declaredList, nil)
	c, _ := f.Cluster()
	want := []Network{{ID: "mn7", Name: "shop_backend", Internal: true, Labels: map[string]string{"team": "a", mtuOption: "1200"}, Options: map[string]string{"mtu": "1200"},
		Subnets: []Subnet{{CIDR: netip.MustParsePrefix("10.97.0.0/24"), Gateway: netip.MustParseAddr("10.97.0.254"),
			Range: netip.MustParsePrefix("10.97.0.128/25"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.97.0.9")}}}}}
	if diff := cmp.Diff(want, c.Networks, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || c.Objects["n7"] != "mn7" {
		t.Errorf("objects %v (-want +got):\n%s", c.Objects, diff)
	}
}

// Of two hosts that make a network of one name, the second gets the first's.
func TestTheSecondNetworkOfANameIsReplaced(t *testing.T) {
	f := newFake()
	f.cluster.Networks, f.differs = nil, true
	f.cluster.Declared = map[string]string{"n7": "10.97.0.0/24"}
	removed := make(chan struct{}, 8)
	listed(t, f, declaredList, map[string]http.HandlerFunc{"DELETE /networks/n7": func(w http.ResponseWriter, _ *http.Request) {
		removed <- struct{}{}
		w.WriteHeader(http.StatusNoContent)
	}})
	select {
	case <-removed:
	case <-time.After(5 * time.Second):
		t.Error("it stays")
	}
}

// What the cluster does not take is named in status until it does.
func TestANetworkThatTheClusterDoesNotTakeIsNamed(t *testing.T) {
	f := newFake()
	f.cluster.Networks = nil
	f.cluster.Declared = map[string]string{"n7": "10.97.0.0/24"}
	f.refuses = api.Errorf(api.KindConflict, "subnet 10.97.0.0/24 overlaps network red")
	e := listed(t, f, declaredList, nil)
	if c, _ := e.check(); c.State != api.CheckWarn || !strings.Contains(c.Detail, "docker network shop_backend is not in the cluster: subnet 10.97.0.0/24 overlaps network red") {
		t.Errorf("%+v", c)
	}
}

// A network that docker network rm took from this host comes back, and the log says
// whose it is.
func TestANetworkRemovedOnOneHostComesBackAndTheLogSaysWhy(t *testing.T) {
	var log strings.Builder
	e := newEngine(agentOf(newFake()), slog.New(slog.NewTextHandler(&log, nil)))
	s := syncing{engine: e, objects: map[string]string{}, served: map[string]bool{}, cluster: Cluster{}}
	e.served = map[string]bool{"b1": true}
	s.made(Network{ID: "b1", Name: "blue"}, "n1")
	s.made(Network{ID: "b2", Name: "red"}, "n2")
	if got := log.String(); strings.Count(got, "made again") != 1 || !strings.Contains(got, `network=blue hint="agentctl network rm blue`) {
		t.Errorf("%s", got)
	}
}

// The agent's own Docker network is as a user's: without options of weft's, and with
// the words that were used on the other host. Only of two networks with one subnet an
// option says which is meant.
func TestTheAgentsDockerNetworkIsAsItWasDeclared(t *testing.T) {
	f := newFake()
	f.cluster.Networks[0].Labels = map[string]string{"team": "a", mtuOption: "1400"}
	made := make(chan map[string]any, 8)
	listed(t, f, `[]`, map[string]http.HandlerFunc{"POST /networks/create": func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		made <- body
		_, _ = w.Write([]byte(`{"Id":"n1"}`))
	}})
	for range 3 {
		body := <-made
		switch got := fmt.Sprint(body["Name"], body["Options"], body["IPAM"].(map[string]any)["Options"], body["Labels"]); body["Name"] {
		case "blue":
			if want := "bluemap[com.docker.network.driver.mtu:1400] <nil> map[team:a weft:1]"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case "twin":
			if want := "twinmap[network:twin] map[network:twin] map[weft:1]"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
}

// A container on a network that the cluster will not take is told at once why.
func TestAContainerOnANetworkThatTheClusterDoesNotTakeIsToldWhy(t *testing.T) {
	f := newFake()
	f.cluster.Networks = nil
	f.cluster.Declared = map[string]string{"n7": "10.97.0.0/24"}
	f.refuses = api.Errorf(api.KindMisuse, "network name my.net is no DNS label")
	e := listed(t, f, declaredList, nil)
	d := newDriver(agentOf(f), e.log)
	d.refusedBy = e.declinedBy
	start := time.Now()
	_, got := post(d.handler(), "IpamDriver.RequestAddress", `{"PoolID":"10.97.0.0/24","Address":""}`)
	if !strings.Contains(got, "my.net is no DNS label") || !strings.Contains(got, "docker network rm shop_backend") || time.Since(start) > madeWithin/2 {
		t.Errorf("after %v: %s", time.Since(start), got)
	}
}
