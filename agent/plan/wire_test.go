package plan_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

var (
	self, peer = discovery.HostID{1}, discovery.HostID{2}
	fuzzed     = discovery.Network{ID: discovery.NetworkID{7}, Name: "blue", VNI: 4096, Subnets: []discovery.Subnet{{
		CIDR: netip.MustParsePrefix("10.70.0.0/24"), Gateway: netip.MustParseAddr("10.70.0.1"),
		Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.70.0.2")}}}}
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// said are the messages by which a host with these endpoints makes itself known.
func said(t testing.TB, h discovery.Header, eps ...discovery.Endpoint) (out []byte) {
	t.Helper()
	tb, err := table.New(table.Config{Self: peer, Header: h, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	x := table.NewExchange(tb, 1, 1)
	tb.SetMember(start, self, netip.AddrPort{}, discovery.StatusAlive)
	here := listening(t)
	here.x.Started(start, peer, 1)
	here.x.Tick(start)
	for _, p := range here.x.Take() { // a pull
		if _, err := x.Receive(start, p.Body); err != nil {
			t.Fatal(err)
		}
	}
	x.Flush()
	tb.Announce(eps, nil)
	x.Flush()
	for _, p := range x.Take() {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(p.Body))), p.Body...)
	}
	return out
}

// host is the one that hears it.
type host struct {
	t *table.Table
	x *table.Exchange
}

func listening(t testing.TB) host {
	t.Helper()
	tb, err := table.New(table.Config{Self: self, Header: discovery.Header{VTEP: netip.MustParseAddr("192.0.2.1"), MTU: 1500}, Now: start, Most: 64})
	if err != nil {
		t.Fatal(err)
	}
	tb.SetMember(start, peer, netip.MustParseAddrPort("192.0.2.2:4798"), discovery.StatusAlive)
	return host{tb, table.NewExchange(tb, 1, 1)}
}

// FuzzNothingFromTheWireIsProgrammedWhereItMayNot feeds messages to a table and plans
// what it says: no state has an address outside its network, a reserved one, a MAC that
// is no station's, or a tunnel address that is not a registered member's.
func FuzzNothingFromTheWireIsProgrammedWhereItMayNot(f *testing.F) {
	mac := discovery.MAC{0x0e, 0, 10, 70, 0, 5}
	header := discovery.Header{Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2"), MTU: 1400, Networks: []discovery.HeaderNetwork{{VNI: 4096, ID: fuzzed.ID}}}
	ep := func(a string) discovery.Endpoint {
		return discovery.Endpoint{ID: discovery.EndpointID{5}, Network: fuzzed.ID, IPv4: netip.MustParseAddr(a), MAC: mac, Name: "web", Aliases: []string{"www"}, Runtime: "netns"}
	}
	for _, a := range []string{"10.70.0.5", "10.70.0.1", "10.70.0.0", "10.70.0.255", "10.70.0.2", "8.8.8.8", "224.0.0.1"} {
		f.Add(said(f, header, ep(a)))
	}
	elsewhere := header
	elsewhere.VTEP = netip.MustParseAddr("198.51.100.9")
	f.Add(said(f, elsewhere, ep("10.70.0.5")))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, zone := heard(t, b)
		check(t, st, map[netip.Addr]bool{hosts[self].VTEP: true, hosts[peer].VTEP: true})
		for _, n := range zone.Networks {
			for _, name := range n.Names {
				if slices.ContainsFunc(name.Addrs, func(a netip.Addr) bool { return !fuzzed.Subnets[0].Assignable(a) }) {
					t.Errorf("DNS has %+v", name)
				}
			}
		}
	})
}

var hosts = map[discovery.HostID]discovery.Registered{
	self: {Name: "h1", VTEP: netip.MustParseAddr("192.0.2.1")}, peer: {Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2")},
}

// heard is the plan of a host that heard the messages.
func heard(t testing.TB, b []byte) (overlay.State, dns.Zone) {
	t.Helper()
	h := listening(t)
	for now := start; len(b) >= 2; now = now.Add(time.Second) {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		_, _ = h.x.Receive(now, b[2:2+n])
		h.x.Tick(now)
		h.x.Take()
		b = b[2+n:]
	}
	v := h.t.View()
	st, zone, _ := plan.New(plan.Settings{Domain: "weft.internal", VTEP: hosts[self].VTEP, TunnelPort: 4799},
		discovery.Snapshot{Self: self, Members: v.Members, Endpoints: v.Endpoints, Refused: v.Refused, Networks: []discovery.Network{fuzzed}, Hosts: hosts, HostsRead: true},
		plan.Own{Active: map[discovery.NetworkID]bool{fuzzed.ID: true}})
	return st, zone
}

// What is as it should be comes through: the fuzzer would see nothing else.
func TestAnEndpointFromTheWireIsPlanned(t *testing.T) {
	h := discovery.Header{Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2"), MTU: 1400}
	e := discovery.Endpoint{ID: discovery.EndpointID{5}, Network: fuzzed.ID, IPv4: netip.MustParseAddr("10.70.0.5"), MAC: discovery.MAC{2, 5: 5}, Name: "web"}
	st, zone := heard(t, said(t, h, e))
	if len(st.Members) != 2 || len(st.Networks) != 2 || len(st.Networks[1].Remotes) != 1 || len(zone.Networks[0].Names) != 1 {
		t.Errorf("state %+v, zone %+v: want the other host and its endpoint", st, zone)
	}
}

func check(t *testing.T, st overlay.State, vteps map[netip.Addr]bool) {
	t.Helper()
	for _, a := range st.Members {
		if !vteps[a] {
			t.Errorf("packets are taken from %s", a)
		}
	}
	for _, n := range st.Networks {
		if n.MTU < 1280-50 || n.MTU > 1450 {
			t.Errorf("MTU %d of %s", n.MTU, n.Name)
		}
		for _, r := range n.Remotes {
			if !vteps[r.VTEP] || r.MAC[0]&1 != 0 || r.MAC == (overlay.MAC{}) || !n.Probe && !fuzzed.Subnets[0].Assignable(r.Addr) {
				t.Errorf("%s has %+v", n.Name, r)
			}
		}
	}
}
