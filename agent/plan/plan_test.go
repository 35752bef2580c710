package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

var addrDiff = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})

var (
	netBlue  = discovery.NetworkID{1}
	netGreen = discovery.NetworkID{2}
	here     = discovery.HostID{1}
	there    = discovery.HostID{2}
)

// planned is a cluster of two hosts with two networks: web and db on blue, here
// and there, and one sandbox of this host on both networks.
func planned() (Settings, discovery.Snapshot, Own) {
	cfg := Settings{Domain: "weft.internal", VTEP: netip.MustParseAddr("192.0.2.1"), TunnelPort: 4799, Intercept: InterceptResolvers}
	blue := discovery.Network{ID: netBlue, Name: "blue", VNI: 0x1000, State: discovery.NetworkUp,
		Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.64.0.0/20"), Gateway: netip.MustParseAddr("10.64.0.1")}}}
	green := discovery.Network{ID: netGreen, Name: "green", VNI: 0x1001, State: discovery.NetworkUp, Internal: true,
		Options: map[string]string{"host_access": "none"},
		Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.64.16.0/20"), Gateway: netip.MustParseAddr("10.64.16.1")}}}
	web := endpoint(1, netBlue, "10.64.0.2", "web", "www")
	db := endpoint(2, netBlue, "10.64.0.66", "db")
	both := endpoint(3, netGreen, "10.64.16.2", "web")
	header := func(vtep string, mtu uint16, nets ...discovery.NetworkID) discovery.Header {
		h := discovery.Header{VTEP: netip.MustParseAddr(vtep), MTU: mtu}
		for _, n := range nets {
			h.Networks = append(h.Networks, discovery.HeaderNetwork{ID: n})
		}
		return h
	}
	snap := discovery.Snapshot{
		Self: here, Complete: true, Networks: []discovery.Network{blue, green},
		Members: []discovery.Member{
			{ID: here, Name: "host1", Status: discovery.StatusAlive, Gossip: netip.MustParseAddrPort("192.0.2.1:4798"), Header: header("192.0.2.1", 1500, netBlue)},
			{ID: there, Name: "host2", Status: discovery.StatusAlive, Gossip: netip.MustParseAddrPort("192.0.2.2:4798"), Header: header("192.0.2.2", 1400, netBlue)},
		},
		Endpoints: []discovery.Record{{Endpoint: web, Host: here}, {Endpoint: db, Host: there}, {Endpoint: both, Host: here}},
	}
	own := Own{Cluster: "c1", Active: map[discovery.NetworkID]bool{netBlue: true, netGreen: true}, Locals: []Local{
		{Endpoint: web, Sandbox: "7"},
		{Endpoint: both, Sandbox: "7"},
	}}
	return cfg, snap, own
}

func endpoint(id byte, n discovery.NetworkID, addr, name string, aliases ...string) discovery.Endpoint {
	a := netip.MustParseAddr(addr)
	return discovery.Endpoint{ID: discovery.EndpointID{id}, Network: n, IPv4: a, MAC: EndpointMAC(0x1000, a), Name: name, Aliases: aliases}
}

// What is closed to endpoints of a member is closed at each of its addresses.
func TestAddressesOfMembers(t *testing.T) {
	cfg, snap, own := planned()
	snap.Members[0].Header.Addrs = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	snap.Members[1].Header.Addrs = []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2001:db8::2")}
	st, _, _ := New(cfg, snap, own)
	want := []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2001:db8::2")}
	if diff := cmp.Diff(want, st.MemberAddrs, addrDiff); diff != "" {
		t.Errorf("of the other member (-want +got):\n%s", diff)
	}
	snap.Members[1].Header.Flags = discovery.FlagGone
	if st, _, _ := New(cfg, snap, own); len(st.MemberAddrs) != 0 {
		t.Errorf("of one that has left: %v", st.MemberAddrs)
	}
}

func TestPlanKernel(t *testing.T) {
	st, _, _ := New(planned())
	if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}, st.Members, addrDiff); diff != "" {
		t.Errorf("tunnel addresses that are let in (-want +got):\n%s", diff)
	}
	probe, blue, green := st.Networks[0], st.Networks[1], st.Networks[2]
	if !probe.Probe || probe.VNI != 1 || len(probe.Remotes) != 1 || probe.Remotes[0].Addr.IsValid() {
		t.Errorf("the members' own network: got %+v, want VNI 1 with one entry for host2", probe)
	}
	if want := []overlay.Remote{{Addr: netip.MustParseAddr("10.64.0.66"), MAC: overlay.MAC{0x0e, 0, 10, 64, 0, 66}, VTEP: netip.MustParseAddr("192.0.2.2")}}; !slices.Equal(blue.Remotes, want) {
		t.Errorf("remotes of blue: got %v, want %v", blue.Remotes, want)
	}
	if len(blue.Ports) != 1 || blue.Ports[0].Endpoint != (discovery.EndpointID{1}).String() {
		t.Errorf("ports of blue: got %v, want that of endpoint 01", blue.Ports)
	}
	if blue.MTU != 1350 {
		t.Errorf("blue is carried by a member with an underlay of 1400: MTU %d, want 1350", blue.MTU)
	}
	if green.MTU != 1450 || !green.Internal || green.HostAccess {
		t.Errorf("green: got MTU %d internal %t host access %t, want 1450 true false", green.MTU, green.Internal, green.HostAccess)
	}
	if blue.GatewayMAC == green.GatewayMAC || blue.GatewayMAC[0]&1 != 0 || blue.GatewayMAC[0]&2 == 0 {
		t.Errorf("gateway MACs %v and %v must differ and be unicast, locally administered", blue.GatewayMAC, green.GatewayMAC)
	}
}

func TestPlanNames(t *testing.T) {
	_, zone, _ := New(planned())
	clients := []dns.Client{
		{Device: "g001000", Addr: netip.MustParseAddr("10.64.0.2"), Networks: []string{"blue", "green"}},
		{Device: "g001001", Addr: netip.MustParseAddr("10.64.16.2"), Networks: []string{"green", "blue"}},
	}
	if diff := cmp.Diff(clients, zone.Clients, addrDiff); diff != "" {
		t.Errorf("a sandbox on two networks sees both, through either gateway (-want +got):\n%s", diff)
	}
	names := map[string][]string{}
	for _, n := range zone.Networks {
		for _, e := range n.Names {
			names[n.Name] = append(names[n.Name], fmt.Sprint(e.Name, e.Aliases, e.Addrs, " here:", e.Here))
		}
	}
	want := map[string][]string{"blue": {"web[www] [10.64.0.2] here:true", "db[] [10.64.0.66] here:false"}, "green": {"web[] [10.64.16.2] here:true"}}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestPlanLiveness(t *testing.T) {
	t.Run("a dead member's names go, its entries stay", func(t *testing.T) {
		cfg, snap, own := planned()
		snap.Members[1].Status = discovery.StatusDead
		snap.Endpoints[1].Status, snap.Endpoints[1].Hidden = discovery.EndpointSuspended, true
		st, zone, _ := New(cfg, snap, own)
		if len(st.Networks[1].Remotes) != 1 || len(st.Members) != 2 {
			t.Errorf("got remotes %v, members %v: what works is not torn down", st.Networks[1].Remotes, st.Members)
		}
		if n := zone.Networks[0].Names; len(n) != 1 {
			t.Errorf("got names %v, want web only", n)
		}
	})
	t.Run("an address that another host holds is not served here", func(t *testing.T) {
		cfg, snap, own := planned()
		snap.Endpoints[0].Conflicted = true
		st, zone, _ := New(cfg, snap, own)
		if len(st.Networks[1].Ports) != 0 || len(zone.Networks[0].Names) != 1 {
			t.Errorf("got ports %v, names %v, want none and db", st.Networks[1].Ports, zone.Networks[0].Names)
		}
	})
	t.Run("a network that is not carried has names but no devices", func(t *testing.T) {
		cfg, snap, own := planned()
		own.Active, own.Locals = nil, nil
		st, zone, _ := New(cfg, snap, own)
		if len(st.Networks) != 1 || zone.Networks[0].Device != "" || len(zone.Networks[0].Names) != 2 {
			t.Errorf("got networks %v, device %q, names %v", st.Networks, zone.Networks[0].Device, zone.Networks[0].Names)
		}
	})
	t.Run("a member that left is not let in", func(t *testing.T) {
		cfg, snap, own := planned()
		snap.Members[1].Header.Flags = discovery.FlagGone
		if st, _, _ := New(cfg, snap, own); len(st.Members) != 1 {
			t.Errorf("got %v, want this host only", st.Members)
		}
	})
}

func TestPlanIsPure(t *testing.T) {
	cfg, snap, own := planned()
	st1, z1, _ := New(cfg, snap, own)
	st2, z2, _ := New(cfg, snap, own)
	if diff := cmp.Diff(st1, st2, addrDiff) + cmp.Diff(z1, z2, addrDiff); diff != "" {
		t.Errorf("equal arguments gave other results:\n%s", diff)
	}
}

func BenchmarkPlan10k(b *testing.B) {
	cfg, snap, own := planned()
	snap.Networks[0].Subnets[0].CIDR = netip.MustParsePrefix("10.64.0.0/16")
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, 64, byte(8 + i>>8), byte(i)})
		snap.Endpoints = append(snap.Endpoints, discovery.Record{Host: there, Endpoint: endpoint(byte(i), netBlue, a.String(), fmt.Sprintf("c%d", i))})
	}
	slices.SortFunc(snap.Endpoints, func(a, b discovery.Record) int { return slices.Compare(a.Network[:], b.Network[:]) })
	b.ReportAllocs()
	for b.Loop() {
		New(cfg, snap, own)
	}
}

// The ports of an endpoint lead to it, unless its address is another
// host's by now.
func TestPlanPublishes(t *testing.T) {
	cfg, snap, own := planned()
	second := overlay.Publish{Proto: 6, HostPort: 8081, Addr: netip.MustParseAddr("10.64.0.2"), Port: 81}
	first := overlay.Publish{Proto: 6, HostPort: 8080, Addr: netip.MustParseAddr("10.64.0.2"), Port: 80}
	own.Locals[0].Ports = []overlay.Publish{second, first}
	published := func() (all []overlay.Publish) {
		state, _, _ := New(cfg, snap, own)
		for _, n := range state.Networks {
			all = append(all, n.Published...)
		}
		return all
	}
	if got := published(); !slices.Equal(got, []overlay.Publish{first, second}) {
		t.Errorf("published %v, want both, sorted", got)
	}
	own.Locals[0].NoDefault = true
	if got := published(); len(got) != 2 || !got[0].Masquerade || !got[1].Masquerade {
		t.Errorf("without a default route: %v, want them masqueraded", got)
	}
	snap.Endpoints[0].Conflicted = true
	if got := published(); len(got) != 0 {
		t.Errorf("published %v of an address that is another host's", got)
	}
}

func TestPlanQuestions(t *testing.T) {
	resolver := netip.MustParseAddr("192.0.2.53")
	for _, tt := range []struct {
		intercept Intercept
		want      overlay.Questions
		arrive    bool // at addresses of the gateway port
	}{
		{InterceptResolvers, overlay.Questions{Redirected: []netip.Addr{resolver}, Address: true}, true},
		{InterceptAll, overlay.Questions{All: true, Address: true}, true},
		{InterceptNone, overlay.Questions{Address: true}, false},
	} {
		cfg, snap, own := planned()
		cfg.Intercept = tt.intercept
		own.Resolvers = ResolverState{Resolvers: []netip.Addr{resolver}, Search: []string{"corp.test"}, Address: true,
			OtherAddrs: map[discovery.EndpointID][]netip.Addr{{3}: {netip.MustParseAddr("172.18.0.2")}}}
		self := endpoint(9, netBlue, "10.64.0.9", "host1")
		self.Runtime = discovery.RuntimeHost
		own.Locals = append(own.Locals, Local{Endpoint: self})
		st, zone, _ := New(cfg, snap, own)
		if diff := cmp.Diff(tt.want, st.Questions, addrDiff); diff != "" {
			t.Errorf("%d (-want +got):\n%s", tt.intercept, diff)
		}
		var want []netip.Addr
		if tt.arrive { // the kernel redirects to the port's first address, be it the gateway or the host's own
			want = []netip.Addr{netip.MustParseAddr("10.64.0.1"), netip.MustParseAddr("10.64.0.9")}
		}
		if diff := cmp.Diff(want, zone.Networks[0].Redirected, addrDiff); diff != "" {
			t.Errorf("%d: blue's addresses for redirected questions (-want +got):\n%s", tt.intercept, diff)
		}
		other := dns.Client{Addr: netip.MustParseAddr("172.18.0.2"), Networks: []string{"blue", "green"}}
		if got := zone.Clients[len(zone.Clients)-1]; !cmp.Equal(got, other, addrDiff) {
			t.Errorf("%d: from another bridge asks %+v, want %+v", tt.intercept, got, other)
		}
		if zone.Address.String() != overlay.DNSAddr.String() || !cmp.Equal(zone.Search, []string{"corp.test"}) {
			t.Errorf("%d: address %v, search %q", tt.intercept, zone.Address, zone.Search)
		}
	}
}

// announced is a cluster in which host2 announces an endpoint that it may not.
func announced(change func(*discovery.Record)) (Settings, discovery.Snapshot, Own) {
	cfg, snap, own := planned()
	bad := discovery.Record{Endpoint: endpoint(9, netBlue, "10.64.0.99", "bad"), Host: there}
	change(&bad)
	snap.Endpoints = append(snap.Endpoints[:2:2], bad, snap.Endpoints[2])
	return cfg, snap, own
}

func TestWhatAMemberMayNotAnnounceIsNotPlanned(t *testing.T) {
	address := func(a string) func(*discovery.Record) {
		return func(r *discovery.Record) {
			r.IPv4 = netip.MustParseAddr(a)
			r.MAC = EndpointMAC(0x1000, r.IPv4)
		}
	}
	for name, change := range map[string]func(*discovery.Record){
		"the gateway":               address("10.64.0.1"),
		"the network address":       address("10.64.0.0"),
		"the broadcast address":     address("10.64.15.255"),
		"a resolver elsewhere":      address("8.8.8.8"),
		"another network's address": address("10.64.16.9"),
		"a member's own address":    address("10.64.0.200"),
		"another endpoint's MAC":    func(r *discovery.Record) { r.MAC = EndpointMAC(0x1000, netip.MustParseAddr("10.64.0.2")) },
		"the MAC of an address that is free": func(r *discovery.Record) {
			r.MAC = EndpointMAC(0x1000, netip.MustParseAddr("10.64.0.50"))
		},
		"this host's gateway port's MAC": func(r *discovery.Record) { r.MAC = discovery.MAC(GatewayMAC(here, 0x1000)) },
	} {
		cfg, snap, own := announced(change)
		snap.Members = append(snap.Members, discovery.Member{ID: discovery.HostID{3}, Name: "host3", Status: discovery.StatusAlive,
			Gossip: netip.MustParseAddrPort("10.64.0.200:4798"), Header: discovery.Header{VTEP: netip.MustParseAddr("10.64.0.200")}})
		st, zone, refused := New(cfg, snap, own)
		if got := st.Networks[1].Remotes; len(got) != 1 || got[0].Addr.String() != "10.64.0.66" {
			t.Errorf("%s: remotes %v, want that of db alone", name, got)
		}
		for _, n := range zone.Networks {
			for _, e := range n.Names {
				if e.Name == "bad" {
					t.Errorf("%s: DNS names it: %v", name, e)
				}
			}
		}
		if len(refused) != 1 || !strings.HasPrefix(refused[0].Source, "member host2 (192.0.2.2)") || !strings.Contains(refused[0].Why, "bad") {
			t.Errorf("%s: refused %v, want it said of host2", name, refused)
		}
	}
}

// A MAC that a user chose, a host's own endpoint, and one of the first octet of ours
// that means nothing are as good as any.
func TestMACsThatAreNobodyElse(t *testing.T) {
	for _, mac := range []discovery.MAC{{2, 0x42, 0, 0, 0, 1}, discovery.MAC(GatewayMAC(there, 0x1000)), {0x0a, 1, 2, 3, 4, 5}, {0x0e, 0, 192, 0, 2, 1}, {0x0e, 7, 10, 64, 0, 2}} {
		cfg, snap, own := announced(func(r *discovery.Record) { r.MAC = mac })
		st, _, refused := New(cfg, snap, own)
		if len(refused) != 0 || len(st.Networks[1].Remotes) != 2 {
			t.Errorf("%s: refused %v, remotes %v", mac, refused, st.Networks[1].Remotes)
		}
	}
}

func TestMembersThatThePoolDoesNotRegister(t *testing.T) {
	third := discovery.HostID{3}
	vtep := netip.MustParseAddr
	for name, c := range map[string]struct {
		change func(*discovery.Snapshot)
		vteps  int // of st.Members
		why    string
	}{
		"all are registered":       {func(*discovery.Snapshot) {}, 3, ""},
		"the pool was never read":  {func(s *discovery.Snapshot) { s.Hosts = nil }, 3, ""},
		"one is not registered":    {func(s *discovery.Snapshot) { delete(s.Hosts, third) }, 2, "no record"},
		"one has another address":  {func(s *discovery.Snapshot) { s.Members[2].Header.VTEP = vtep("192.0.2.9") }, 2, "tunnel address"},
		"one has this host's":      {func(s *discovery.Snapshot) { s.Members[2].Header.VTEP = vtep("192.0.2.1") }, 2, "of this host"},
		"one has another member's": {func(s *discovery.Snapshot) { s.Members[2].Header.VTEP, s.HostsRead = vtep("192.0.2.2"), false }, 2, ""},
		"one moved, and the pool is away": {func(s *discovery.Snapshot) {
			s.Members[2].Header.VTEP, s.HostsRead = vtep("192.0.2.9"), false
			s.Members[2].Gossip = netip.MustParseAddrPort("192.0.2.9:4798")
		}, 3, ""},
		"one says that it moved, and the pool is away": {func(s *discovery.Snapshot) {
			s.Members[2].Header.VTEP, s.HostsRead = vtep("192.0.2.9"), false
		}, 2, "tunnel address"},
		"one has left": {func(s *discovery.Snapshot) {
			s.Members[2].Header.Flags = discovery.FlagGone
			delete(s.Hosts, third)
		}, 2, ""},
		"two are registered at one address": {func(s *discovery.Snapshot) {
			s.Members[2].Header.VTEP, s.Hosts[third] = vtep("192.0.2.2"), discovery.Registered{Name: "host3", VTEP: vtep("192.0.2.2")}
		}, 2, "another member"},
	} {
		cfg, snap, own := planned()
		snap.Members = append(snap.Members, discovery.Member{ID: third, Name: "host3", Status: discovery.StatusAlive,
			Gossip: netip.MustParseAddrPort("192.0.2.3:4798"), Header: discovery.Header{VTEP: vtep("192.0.2.3"), MTU: 1280, Networks: []discovery.HeaderNetwork{{ID: netBlue}}}})
		snap.Endpoints = append(snap.Endpoints[:2:2], discovery.Record{Endpoint: endpoint(9, netBlue, "10.64.0.99", "third"), Host: third}, snap.Endpoints[2])
		snap.Hosts, snap.HostsRead = map[discovery.HostID]discovery.Registered{}, true
		for _, m := range snap.Members {
			snap.Hosts[m.ID] = discovery.Registered{Name: m.Name, VTEP: m.Header.VTEP}
		}
		c.change(&snap)
		st, zone, refused := New(cfg, snap, own)
		if len(st.Members) != c.vteps || len(st.Networks[0].Remotes) != c.vteps-1 || len(st.Networks[1].Remotes) != c.vteps-1 {
			t.Errorf("%s: tunnel addresses %v, remotes %v, want %d", name, st.Members, st.Networks[1].Remotes, c.vteps)
		}
		if got := len(zone.Hosts); got != c.vteps {
			t.Errorf("%s: hosts in DNS %v, want %d", name, zone.Hosts, c.vteps)
		}
		if c.vteps == 2 && st.Networks[1].MTU != 1350 {
			t.Errorf("%s: MTU %d because of a member that is not believed", name, st.Networks[1].MTU)
		}
		if c.why == "" && c.vteps == 3 && len(refused) != 0 || c.why != "" && (len(refused) != 1 || !strings.Contains(refused[0].Why, c.why)) {
			t.Errorf("%s: refused %v, want %q", name, refused, c.why)
		}
	}
}

// What one member does not say right is said of it a few times, whatever it sends.
func TestRefusalsOfAMemberAreFew(t *testing.T) {
	cfg, snap, own := planned()
	bad := make([]discovery.Record, 0, 1000)
	for i := range 1000 {
		bad = append(bad, discovery.Record{Host: there, Endpoint: endpoint(byte(i), netBlue, fmt.Sprintf("8.8.%d.%d", i>>8, i&255), "bad")})
	}
	snap.Endpoints = slices.Concat(snap.Endpoints[:2], bad, snap.Endpoints[2:])
	if _, _, refused := New(cfg, snap, own); len(refused) != namedOf {
		t.Errorf("%d refusals, want %d", len(refused), namedOf)
	}
}
