package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
)

// fake is an agent that remembers what it was asked.
type fake struct {
	differs  bool // Create finds another network of the name
	refuses  error
	given    []Given
	mu       sync.Mutex
	cluster  Cluster
	err      error // of all calls that make something
	leases   map[netip.Addr]bool
	bound    map[string]Endpoint
	joined   map[string]string
	released []string
	ports    map[string][]string
}

func newFake() *fake {
	blue := Network{ID: "b1", Name: "blue", Options: map[string]string{"mtu": "1400"}, Subnets: []Subnet{{
		CIDR: netip.MustParsePrefix("10.50.0.0/24"), Gateway: netip.MustParseAddr("10.50.0.1"),
		Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.50.0.9")},
	}}}
	twin := Network{ID: "t1", Name: "twin", Internal: true, Subnets: []Subnet{{
		CIDR: netip.MustParsePrefix("10.60.0.0/24"), Gateway: netip.MustParseAddr("10.60.0.1"), Range: netip.MustParsePrefix("10.60.0.128/25"),
	}}}
	other := twin
	other.ID, other.Name = "t2", "twin2"
	return &fake{cluster: Cluster{Networks: []Network{blue, twin, other}, Objects: map[string]string{}, Read: true},
		leases: map[netip.Addr]bool{}, bound: map[string]Endpoint{}, joined: map[string]string{}}
}

func (f *fake) Cluster() (Cluster, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cluster, f.err
}
func (f *fake) Adopt(id, network string) error {
	f.cluster.Objects[id] = network
	return f.err
}
func (f *fake) Drop(id string) error {
	delete(f.cluster.Objects, id)
	delete(f.cluster.Declared, id)
	return nil
}
func (f *fake) Lay(n Network, taken []netip.Prefix) (Subnet, error) {
	sub, ok := n.subnet4()
	if !ok || !sub.CIDR.IsValid() {
		sub.CIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 70, byte(len(taken)), 0}), 24)
	}
	if _, odd := n.Options["colour"]; odd {
		return sub, api.Errorf(api.KindMisuse, "-o colour: unknown option")
	}
	for _, have := range f.cluster.Networks {
		if s, _ := have.subnet4(); s.CIDR.Overlaps(sub.CIDR) {
			return sub, api.Errorf(api.KindConflict, "subnet %s overlaps network %s", sub.CIDR, have.Name)
		}
	}
	if !sub.Gateway.IsValid() {
		sub.Gateway = sub.CIDR.Addr().Next()
	}
	return sub, f.err
}
func (f *fake) Declare(id string, subnet netip.Prefix) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cluster.Declared = maps.Clone(f.cluster.Declared)
	if f.cluster.Declared == nil {
		f.cluster.Declared = map[string]string{}
	}
	f.cluster.Declared[id] = subnet.String()
	return f.err
}
func (f *fake) Create(_ context.Context, id string, n Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.differs {
		return ErrDiffers
	}
	if f.refuses != nil {
		return f.refuses
	}
	n.ID = "m" + id
	f.cluster.Networks = append(slices.Clone(f.cluster.Networks), n)
	f.cluster.Objects = maps.Clone(f.cluster.Objects)
	f.cluster.Objects[id] = n.ID
	return f.err
}
func (f *fake) Lease(_ context.Context, _ string, want netip.Addr) (netip.Prefix, error) {
	if !want.IsValid() {
		want = netip.AddrFrom4([4]byte{10, 50, 0, byte(10 + len(f.leases))})
	}
	if f.leases[want] {
		return netip.Prefix{}, api.Errorf(api.KindConflict, "address %s is in use", want).WithHint("choose another --ip")
	}
	f.leases[want] = true
	return netip.PrefixFrom(want, 24), f.err
}
func (f *fake) Release(_ context.Context, network string, a netip.Addr) error {
	f.released = append(f.released, network+" "+a.String())
	delete(f.leases, a)
	return nil
}
func (f *fake) Bind(_ context.Context, e Endpoint) (string, error) {
	f.bound[e.ID] = e
	return "0e:01:0a:32:00:0a", f.err
}
func (f *fake) Join(_ context.Context, endpoint, key string) (Interface, error) {
	f.joined[endpoint] = key
	return Interface{Name: "w0123456789ab", Gateway: netip.MustParseAddr("10.50.0.1")}, f.err
}
func (f *fake) Leave(_ context.Context, endpoint string) error {
	delete(f.joined, endpoint)
	return nil
}
func (f *fake) Remove(_ context.Context, endpoint string) error {
	delete(f.bound, endpoint)
	return nil
}
func (f *fake) Publish(_ context.Context, endpoint string, ports []string) error {
	f.ports = map[string][]string{endpoint: ports}
	return f.err
}
func (f *fake) Unpublish(_ context.Context, endpoint string) error {
	delete(f.ports, endpoint)
	return nil
}
func (f *fake) Keep(_ context.Context, given []Given) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = given
}
func (f *fake) Describe(context.Context, string, Container) error { return nil }
func (f *fake) Compare(context.Context, time.Time, map[string]bool) ([]string, bool) {
	return nil, false
}

// post calls a method as Docker does.
func post(h http.Handler, method, body string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+method, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// side is a whole agent.
type side interface {
	Networks
	Endpoints
	Observer
}

func agentOf(s side) Agent { return Agent{s, s, s} }

func newHandler(a side) http.Handler {
	return newDriver(agentOf(a), slog.New(slog.DiscardHandler)).handler()
}

// The bodies are those of dockerd 20.10, in its order, for a container with a
// port published.
func TestAContainersLife(t *testing.T) {
	f := newFake()
	h := newHandler(f)
	for _, c := range []struct{ method, body, want string }{
		{"Plugin.Activate", "", `{"Implements":["NetworkDriver","IpamDriver"]}`},
		{"NetworkDriver.GetCapabilities", "", `{"Scope":"local","ConnectivityScope":"global"}`},
		{"IpamDriver.GetCapabilities", "", `{"RequiresMACAddress":false,"RequiresRequestReplay":false}`},
		{"IpamDriver.GetDefaultAddressSpaces", "", `{"LocalDefaultAddressSpace":"weft","GlobalDefaultAddressSpace":"weft"}`},
		{"IpamDriver.RequestPool", `{"AddressSpace":"weft","Pool":"10.50.0.0/24","SubPool":"","Options":{"network":"blue"},"V6":false}`,
			`{"PoolID":"b1","Pool":"10.50.0.0/24","Data":{}}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"b1","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`,
			`{"Address":"10.50.0.1/24","Data":{}}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"b1","Address":"10.50.0.9","Options":null}`, `{"Address":"10.50.0.9/24","Data":{}}`},
		{"NetworkDriver.CreateNetwork", `{"NetworkID":"d1","Options":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"network":"blue","mtu":"1400"}},
			"IPv4Data":[{"AddressSpace":"weft","Gateway":"10.50.0.1/24","Pool":"10.50.0.0/24","AuxAddresses":{"printer":"10.50.0.9/24"}}],"IPv6Data":[]}`, `{}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"b1","Address":"","Options":null}`, `{"Address":"10.50.0.10/24","Data":{}}`},
		{"NetworkDriver.CreateEndpoint", `{"NetworkID":"d1","EndpointID":"e1","Interface":{"Address":"10.50.0.10/24","AddressIPv6":"","MacAddress":""},
			"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080}]}}`,
			`{"Interface":{"MacAddress":"0e:01:0a:32:00:0a"}}`},
		{"NetworkDriver.Join", `{"NetworkID":"d1","EndpointID":"e1","SandboxKey":"/run/docker/netns/0123456789ab","Options":{}}`,
			`{"InterfaceName":{"SrcName":"w0123456789ab","DstPrefix":"eth"},"Gateway":"10.50.0.1"}`},
		{"NetworkDriver.EndpointOperInfo", `{"NetworkID":"d1","EndpointID":"unheard of"}`, `{"Value":{}}`},
		{"NetworkDriver.Leave", `{"NetworkID":"d1","EndpointID":"e1"}`, `{}`},
		{"NetworkDriver.DeleteEndpoint", `{"NetworkID":"d1","EndpointID":"e1"}`, `{}`},
		{"IpamDriver.ReleaseAddress", `{"PoolID":"b1","Address":"10.50.0.10"}`, `{}`},
		{"IpamDriver.ReleaseAddress", `{"PoolID":"b1","Address":"10.50.0.1"}`, `{}`},
		{"IpamDriver.ReleasePool", `{"PoolID":"b1"}`, `{}`},
		{"NetworkDriver.DeleteNetwork", `{"NetworkID":"d1"}`, `{}`},
	} {
		if code, got := post(h, c.method, c.body); code != http.StatusOK || got != c.want {
			t.Errorf("%s %s\n got %d %s\nwant %s", c.method, c.body, code, got, c.want)
		}
	}
	if want := []string{"b1 10.50.0.10", "b1 10.50.0.1"}; !slices.Equal(f.released, want) || len(f.bound)+len(f.joined)+len(f.cluster.Objects) > 0 {
		t.Errorf("released %v, want %v; left: %v %v %v", f.released, want, f.bound, f.joined, f.cluster.Objects)
	}
	if code, _ := post(h, "NetworkDriver.ProgramAnything", `{}`); code != http.StatusNotFound {
		t.Errorf("an unknown method is answered with %d", code)
	}
}

func TestRefusalsSayWhatToType(t *testing.T) {
	network := func(generic, data string) string {
		return fmt.Sprintf(`{"NetworkID":"d1","Options":{"com.docker.network.generic":%s},"IPv4Data":[%s],"IPv6Data":[]}`, generic, data)
	}
	for _, c := range []struct{ what, method, body, want string }{
		{"no JSON", "IpamDriver.RequestPool", `{`, "cannot be read"},
		{"IPv6", "IpamDriver.RequestPool", `{"V6":true}`, "leave --ipv6 out"},
		{"two of one subnet", "IpamDriver.RequestPool", `{"Pool":"10.60.0.0/24"}`, "several networks"},
		{"another range", "IpamDriver.RequestPool", `{"Pool":"10.60.0.0/24","SubPool":"10.60.0.0/25","Options":{"network":"twin"}}`, "leave --ip-range out"},
		{"a deleted pool", "IpamDriver.RequestAddress", `{"PoolID":"gone"}`, "agentctl network ls"},
		{"Docker's IPAM", "NetworkDriver.CreateNetwork", network(`{"network":"blue"}`, `{"AddressSpace":"LocalDefault","Pool":"10.50.0.0/24"}`),
			"docker network create -d weft --ipam-driver weft --ipam-opt network=blue -o network=blue --subnet 10.50.0.0/24 NAME"},
		{"two of one subnet, unnamed", "NetworkDriver.CreateNetwork", network(`null`, `{"AddressSpace":"weft","Pool":"10.60.0.0/24"}`), "several networks"},
		{"named otherwise", "NetworkDriver.CreateNetwork", network(`{"network":"blue"}`, `{"AddressSpace":"weft","Pool":"10.60.0.0/24"}`), "does not have the subnet"},
		{"an endpoint on no network of ours", "NetworkDriver.CreateEndpoint", `{"NetworkID":"d9","EndpointID":"e1","Interface":{"Address":"10.50.0.10/24"}}`, "agentctl network ls"},
	} {
		code, got := post(newHandler(newFake()), c.method, c.body)
		var f failure
		if err := json.Unmarshal([]byte(got), &f); err != nil || code == http.StatusOK || !strings.Contains(f.Err, c.want) {
			t.Errorf("%s: want an error with %q, got %d %s", c.what, c.want, code, got)
		}
	}
}

// A host that is no member refuses to make things, and lets Docker take down
// what it has.
func TestWithoutAMembershipOnlyTearDownSucceeds(t *testing.T) {
	f := newFake()
	f.err = api.Errorf(api.KindFailed, "h1 is not a member of a cluster").WithHint("agentctl init")
	h := newHandler(f)
	for _, method := range []string{"IpamDriver.RequestPool", "IpamDriver.RequestAddress", "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join"} {
		if code, got := post(h, method, `{}`); code == http.StatusOK || !strings.Contains(got, "agentctl init") {
			t.Errorf("%s: %d %s", method, code, got)
		}
	}
	for _, method := range []string{"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "NetworkDriver.DeleteNetwork", "IpamDriver.ReleasePool", "NetworkDriver.EndpointOperInfo"} {
		if code, got := post(h, method, `{}`); code != http.StatusOK {
			t.Errorf("%s: %d %s", method, code, got)
		}
	}
}

// An engine that finds our choice of a pool on its host asks for another one
// without end.
func TestAnEngineThatWantsAnotherPoolIsStopped(t *testing.T) {
	h := newHandler(newFake())
	body := `{"Pool":"","Options":{"network":"blue"}}`
	if code, got := post(h, "IpamDriver.RequestPool", body); code != http.StatusOK {
		t.Fatalf("first: %s", got)
	}
	if code, got := post(h, "IpamDriver.RequestPool", body); code == http.StatusOK || !strings.Contains(got, "--subnet 10.50.0.0/24") {
		t.Errorf("asked again: %d %s", code, got)
	}
	post(h, "IpamDriver.ReleasePool", `{"PoolID":"b1"}`)
	if code, got := post(h, "IpamDriver.RequestPool", body); code != http.StatusOK {
		t.Errorf("a new attempt: %s", got)
	}
}

// Whatever comes in is answered with JSON, and nothing but what exists is made.
func FuzzBodies(f *testing.F) {
	methods := slices.Sorted(maps.Keys(newDriver(agentOf(newFake()), slog.New(slog.DiscardHandler)).calls()))
	for i := range methods {
		f.Add(i, []byte(`{"NetworkID":"d1","EndpointID":"e1","PoolID":"b1","Address":"10.50.0.10","Interface":{"Address":"10.50.0.10/24"}}`))
		f.Add(i, []byte(`{"IPv4Data":[{"AddressSpace":"weft","Pool":"10.50.0.0/24","AuxAddresses":{"a":"x"}}]}`))
		f.Add(i, []byte(`null`))
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		if i < 0 || i >= len(methods) {
			return
		}
		w := httptest.NewRecorder()
		newHandler(newFake()).ServeHTTP(w, httptest.NewRequest(http.MethodPost, methods[i], bytes.NewReader(body)))
		if !json.Valid(w.Body.Bytes()) || w.Code != http.StatusOK && w.Code != http.StatusInternalServerError {
			t.Errorf("%s %q: %d %s", methods[i], body, w.Code, w.Body)
		}
	})
}

func TestNamesAreThoseThatDockerWouldAnswer(t *testing.T) {
	id := strings.Repeat("ab", 32)
	k := &known{id: id, name: "web", hostname: "www-1", health: "healthy",
		aliases: map[string][]string{"blue": {"www", "web", id[:12], ""}, "green": {"cache"}}}
	want := Container{ID: id, Name: "web", Health: "healthy", Aliases: []string{"www", id[:12], "www-1"}}
	if diff := cmp.Diff(want, k.describe("blue")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSentenceHoldsTheHint(t *testing.T) {
	err := fmt.Errorf("outer: %w", api.Errorf(api.KindConflict, "taken").WithHint("choose another"))
	if got, want := sentence(err), "outer: taken (hint: choose another)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sentence(errors.New("plain")); got != "plain" {
		t.Errorf("got %q", got)
	}
}
