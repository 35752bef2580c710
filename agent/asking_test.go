package agent

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

func TestPlanQuestions(t *testing.T) {
	resolver := netip.MustParseAddr("192.0.2.53")
	for _, tt := range []struct {
		intercept config.Intercept
		want      overlay.Questions
		arrive    bool // at addresses of the gateway port
	}{
		{config.InterceptUpstreams, overlay.Questions{Redirected: []netip.Addr{resolver}, Address: true}, true},
		{config.InterceptAll, overlay.Questions{All: true, Address: true}, true},
		{config.InterceptOff, overlay.Questions{Address: true}, false},
	} {
		cfg, snap, own := planned()
		cfg.DNS.Intercept = tt.intercept
		own.Asking = Asking{Resolvers: []netip.Addr{resolver}, Search: []string{"corp.test"}, Address: true,
			Bridged: map[discovery.EndpointID][]netip.Addr{{3}: {netip.MustParseAddr("172.18.0.2")}}}
		self := endpoint(9, netBlue, "10.64.0.9", "host1")
		self.Runtime = runtimeHost
		own.Locals = append(own.Locals, Local{Endpoint: self})
		st, zone := plan(cfg, snap, own)
		if diff := cmp.Diff(tt.want, st.Questions, addrDiff); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.intercept, diff)
		}
		var want []netip.Addr
		if tt.arrive { // the kernel redirects to the port's first address, be it the gateway or the host's own
			want = []netip.Addr{netip.MustParseAddr("10.64.0.1"), netip.MustParseAddr("10.64.0.9")}
		}
		if diff := cmp.Diff(want, zone.Networks[0].Redirected, addrDiff); diff != "" {
			t.Errorf("%s: blue's addresses for redirected questions (-want +got):\n%s", tt.intercept, diff)
		}
		bridged := dns.Client{Addr: netip.MustParseAddr("172.18.0.2"), Networks: []string{"blue", "green"}}
		if got := zone.Clients[len(zone.Clients)-1]; !cmp.Equal(got, bridged, addrDiff) {
			t.Errorf("%s: from another bridge asks %+v, want %+v", tt.intercept, got, bridged)
		}
		if zone.Address.String() != setup.Address || !cmp.Equal(zone.Search, []string{"corp.test"}) {
			t.Errorf("%s: address %v, search %q", tt.intercept, zone.Address, zone.Search)
		}
	}
}

func TestResolversOfAllSources(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch corp.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &session{wake: make(chan struct{}, 1), resolvers: map[string][]netip.Addr{}, bridged: map[discovery.EndpointID][]netip.Addr{}}
	s.cfg.DNS = config.DNS{ResolvConf: conf, Address: config.AddressOn}
	s.lookAsking()
	own := netip.MustParseAddr("198.51.100.53")
	s.setResolvers("a container", []netip.Addr{own, netip.MustParseAddr("127.0.0.1"), {}})
	s.setBridged(discovery.EndpointID{1}, []netip.Addr{netip.MustParseAddr("172.18.0.2")})
	a := s.asking()
	want := append([]netip.Addr{}, dockerFallback[1], dockerFallback[0], netip.MustParseAddr("192.0.2.53"), own)
	if diff := cmp.Diff(want, a.Resolvers[:4], addrDiff); diff != "" {
		t.Errorf("resolvers (-want +got):\n%s", diff)
	}
	if !a.Address || !cmp.Equal(a.Search, []string{"corp.test"}) || len(a.Bridged) != 1 {
		t.Errorf("got %+v", a)
	}
	<-s.wake // a pass was asked for
	s.setResolvers("a container", []netip.Addr{own})
	s.setBridged(discovery.EndpointID{1}, []netip.Addr{netip.MustParseAddr("172.18.0.2")})
	s.lookAsking()
	if len(s.wake) > 0 {
		t.Error("a pass was asked for although nothing changed")
	}
	s.setResolvers("a container", nil)
	s.setBridged(discovery.EndpointID{1}, nil)
	if a := s.asking(); len(a.Resolvers) != 5 || len(a.Bridged) != 0 {
		t.Errorf("taken back: %+v", a)
	}
}

func TestAddressFollowsDaemonJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	for text, want := range map[string]bool{"": false, `{"dns": ["192.0.2.53", "169.254.53.53"]}`: true, `{"dns": ["192.0.2.53"]}`: false, "{": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := listed(file); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if overlay.DNSAddr.String() != setup.Address {
		t.Errorf("daemon.json is given %s, and the address is %s", setup.Address, overlay.DNSAddr)
	}
}

// foundDocker is a Docker whose engine was found.
type foundDocker struct {
	Docker
	version, api string
}

func (d foundDocker) Engine() (version, api string) { return d.version, d.api }

// Status is asked for every few seconds, and a connection starts an engine that
// was stopped.
func TestStatusKnowsTheEngineWithoutAskingIt(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{Docker: config.Docker{Socket: filepath.Join(dir, "docker.sock"), DaemonJSON: filepath.Join(dir, "daemon.json")}}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Docker.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, none := range []Docker{nil, foundDocker{}} {
		if found, _, err := lookDocker(none, cfg); found != nil || err != nil {
			t.Errorf("no engine: %+v, %v", found, err)
		}
	}
	found, f, err := lookDocker(foundDocker{version: "29.1.0", api: "1.52"}, cfg)
	if err != nil || found == nil || found.Engine != "29.1.0" {
		t.Errorf("an engine: %+v, %v", found, err)
	}
	if c := dockerCheck(f, cfg, true); c.State != api.CheckFail || !strings.Contains(c.Detail, "engine 29.1.0 asks for its containers from the host") {
		t.Errorf("of API 1.52: %+v", c)
	}
	if err := l.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the engine was asked")
	}
}

func TestDockerCheck(t *testing.T) {
	stub := setup.Facts{Version: "20.10.24", Resolv: []string{"127.0.0.53"}}
	fine := setup.Facts{Version: "20.10.24", Resolv: []string{"192.0.2.53"}}
	set := setup.Facts{Version: "29.1.0", Servers: []string{setup.Address}}
	for _, tt := range []struct {
		name  string
		facts setup.Facts
		cfg   config.DNS
		used  bool
		want  string
	}{
		{"redirected", fine, config.DNS{}, true, api.CheckOK},
		{"out of reach", stub, config.DNS{}, true, api.CheckFail},
		{"out of reach, and nobody there", stub, config.DNS{}, false, api.CheckWarn},
		{"set up", set, config.DNS{Intercept: config.InterceptOff}, true, api.CheckOK},
		{"set up, and switched off here", set, config.DNS{Address: config.AddressOff}, true, api.CheckFail},
	} {
		c := dockerCheck(tt.facts, config.Config{DNS: tt.cfg}, tt.used)
		if c.State != tt.want || c.Detail == "" || (c.Hint == "") != (tt.want == api.CheckOK) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}
