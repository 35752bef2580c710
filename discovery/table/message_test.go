package table_test

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/table"
)

var fullHeader = discovery.Header{
	Nonce: 1 << 63, Name: "alpha", Version: "0.1.0", FormatMin: 1, FormatMax: 1,
	VTEP: netip.MustParseAddr("2001:db8::1"), TunnelPort: 4789, MTU: 1500, GoneHash: 99,
	WG: &discovery.WireGuard{Key: [32]byte{1, 31: 9}, IP: netip.MustParseAddr("192.0.2.7"),
		Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")},
	Avoid: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")},
	Networks: []discovery.HeaderNetwork{{VNI: 4096, ID: discovery.NetworkID{1}, Blocks: []netip.Prefix{
		netip.MustParsePrefix("10.42.0.0/26"), netip.MustParsePrefix("10.42.0.64/26")}}, {VNI: 4097, ID: discovery.NetworkID{2}}},
}

var fullEndpoint = discovery.Endpoint{
	ID: discovery.EndpointID{1, 2, 3}, Network: discovery.NetworkID{1}, IPv4: netip.MustParseAddr("10.42.0.2"),
	IPv6: netip.MustParseAddr("2001:db8::2"), MAC: discovery.MAC{2, 0, 0, 0, 0, 1}, Seq: 7, Name: "web",
	Aliases: []string{"a", "b"},
	Runtime: "systemd-nspawn", Health: discovery.HealthUnhealthy,
}

// published is an endpoint with what people look for.
var published = discovery.Endpoint{
	ID: discovery.EndpointID{4}, Network: discovery.NetworkID{1}, IPv4: netip.MustParseAddr("10.42.0.4"), MAC: discovery.MAC{2, 0, 0, 0, 0, 4}, Name: "shop",
	Details: discovery.Details{Ports: []discovery.Port{{Proto: 6, HostPort: 8080, Port: 80}, {Proto: 17, HostAddr: netip.MustParseAddr("192.0.2.1"), HostPort: 53, Port: 5353}},
		Labels: []string{"team=shop", "x="}, Told: 3},
}

// sample holds one message of each kind.
func samples() []table.Message {
	t, err := table.New(table.Config{Self: hostID(1), Header: fullHeader, Endpoints: []discovery.Endpoint{fullEndpoint}, Now: start})
	if err != nil {
		panic(err)
	}
	own, err := table.Parse(newHost(t, 1).Digest())
	if err != nil {
		panic(err)
	}
	return []table.Message{
		table.Delta{Owner: table.ShortOf(hostID(1)), Inc: 3, From: 7, To: 9, Confirm: true, Ops: []table.Op{
			{Kind: table.OpDelete, ID: endpointID(1, 1), Ver: 8, Raw: []byte{}},
			{Kind: table.OpUpsert, ID: endpointID(1, 2), Ver: 9, Raw: []byte{5 << 1, 7}}}},
		table.Announce{Owner: table.ShortOf(hostID(1)), At: table.Version{Inc: 3, Ver: 9}},
		table.Seen{From: table.ShortOf(hostID(1)), At: table.Version{Inc: 3, Ver: 9}},
		own,
		table.Digest{From: hostID(1), Want: true, Root: 5, Scope: make([]byte, 32), Buckets: make([]uint64, 256)},
		table.Pull{From: hostID(1), Owners: []table.PullEntry{{Owner: table.ShortOf(hostID(2)), Have: table.Version{Inc: 1, Ver: 300}}}},
		table.State{From: hostID(1), Sections: []table.Section{{Owner: hostID(2), At: table.Version{Inc: 1, Ver: 2}, Parts: 1, CRC: 77,
			Ops: []table.Op{{Kind: table.OpHeader, Raw: []byte{}}}}}},
		table.Gone{ID: hostID(3), By: "alpha"},
		table.Call{From: hostID(1), Seq: 300, Body: []byte("lend")},
		table.Call{From: hostID(1), Seq: 300, Reply: true, Body: []byte("yes")},
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	for _, want := range samples() {
		got, err := table.Parse(want.Append(nil))
		if err != nil {
			t.Errorf("%T: %v", want, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%T (-want +got):\n%s", want, diff)
		}
	}
}

func TestShortenedMessagesAreMalformedOrShorter(t *testing.T) {
	for _, m := range samples() {
		b := m.Append(nil)
		for n := range b {
			if got, err := table.Parse(b[:n]); err != nil && !errors.Is(err, discovery.ErrMalformed) {
				t.Errorf("%T cut to %d bytes: %v, %v", m, n, got, err)
			}
		}
	}
}

// replicaOf returns what another host shows of a host with that state.
func replicaOf(t *testing.T, h discovery.Header, eps ...discovery.Endpoint) discovery.View {
	t.Helper()
	a, b := exchange(t, 1, h, eps...), exchange(t, 2, discovery.Header{})
	converge(a, b)
	return b.View()
}

// host is a table, and the exchange that keeps it equal to others'.
type host struct {
	*table.Table
	*table.Exchange
}

func newHost(t *table.Table, seed uint64) host { return host{t, table.NewExchange(t, 1, seed)} }

func exchange(t testing.TB, i int, h discovery.Header, eps ...discovery.Endpoint) host {
	t.Helper()
	tb, err := table.New(table.Config{Self: hostID(i), Header: h, Endpoints: eps, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	return newHost(tb, uint64(i))
}

// limited is a host without endpoints that holds so many of one other.
func limited(t testing.TB, i, most int) host {
	t.Helper()
	tb, err := table.New(table.Config{Self: hostID(i), Header: header(i), Now: start, Most: most})
	if err != nil {
		t.Fatal(err)
	}
	return newHost(tb, uint64(i))
}

// converge makes the hosts members of each other and carries messages to and fro
// until there are none.
func converge(all ...host) { convergeAt(start, all...) }

func convergeAt(now time.Time, all ...host) {
	by := map[discovery.HostID]host{}
	for _, x := range all {
		by[x.Self()] = x
		for _, o := range all {
			if o.Self() != x.Self() {
				x.SetMember(now, o.Self(), netip.AddrPort{}, discovery.StatusAlive)
			}
		}
	}
	for _, x := range all[1:] {
		x.Compare(all[0].Self())
	}
	for moved := true; moved; {
		now = now.Add(discoverytest.Tick)
		moved = false
		for i, x := range all {
			x.Tick(now)
			x.Flush()
			for _, p := range x.Take() {
				moved = true
				to, ok := by[p.To]
				if !ok { // a host that is away: the next one hears it in its place
					to = all[(i+1)%len(all)]
				}
				if _, err := to.Receive(now, p.Body); err != nil {
					panic(err)
				}
			}
		}
	}
}

func TestReplicaShowsEveryFieldOfItsOwner(t *testing.T) {
	if v := replicaOf(t, fullHeader, published); len(v.Endpoints) != 1 || !v.Endpoints[0].Endpoint.Equal(published) {
		t.Errorf("endpoints %+v, want %+v", v.Endpoints, published)
	}
	v := replicaOf(t, fullHeader, fullEndpoint)
	want := fullHeader
	want.GoneHash = 0 // the table's own
	for _, m := range v.Members {
		if m.ID == hostID(1) {
			if diff := cmp.Diff(want, m.Header, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		}
	}
	if len(v.Endpoints) != 1 || !v.Endpoints[0].Endpoint.Equal(fullEndpoint) {
		t.Errorf("endpoints %+v, want %+v", v.Endpoints, fullEndpoint)
	}
}

func TestFieldsOfANewerFormatAreKept(t *testing.T) {
	newer := fullEndpoint
	newer.Unknown = []byte{0xc9, 0x01, 3, 'n', 'e', 'w'} // tag 100, three bytes
	h := fullHeader
	h.Unknown = []byte{0xc8, 0x01, 7} // tag 100, a number
	v := replicaOf(t, h, newer)
	if got := v.Endpoints[0].Unknown; string(got) != string(newer.Unknown) {
		t.Errorf("endpoint kept %x, want %x", got, newer.Unknown)
	}
	if got := v.Endpoints[0].Name; got != "web" {
		t.Errorf("name %q beside an unknown field", got)
	}
	for _, m := range v.Members {
		if m.ID == hostID(1) && string(m.Header.Unknown) != string(h.Unknown) {
			t.Errorf("header kept %x, want %x", m.Header.Unknown, h.Unknown)
		}
	}
}

func TestUnknownOpsAreSteppedOver(t *testing.T) {
	d := table.Delta{Owner: table.ShortOf(hostID(1)), Inc: 1, From: 1, To: 2, Ops: []table.Op{
		{Kind: table.OpHeader + 1, Ver: 2, Raw: []byte("what")}, {Kind: table.OpDelete, ID: endpointID(1, 1), Ver: 2}}}
	m, err := table.Parse(d.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if ops := m.(table.Delta).Ops; len(ops) != 1 || ops[0].Kind != table.OpDelete {
		t.Errorf("ops %+v, want the delete alone", ops)
	}
}

// TestMessageSizes holds the figures of DESIGN.md.
func TestMessageSizes(t *testing.T) {
	x := exchange(t, 1, header(1), endpoints(1, 100)...)
	x.SetMember(start, hostID(2), netip.AddrPort{}, discovery.StatusAlive)
	x.Flush()
	x.Take()
	size := func(change func()) int {
		change()
		x.Flush()
		for _, p := range x.Take() {
			if p.Kind == table.KindDelta {
				return len(p.Body)
			}
		}
		t.Fatal("no delta")
		return 0
	}
	check := func(what string, got, limit int) {
		t.Helper()
		t.Logf("%s: %d bytes", what, got)
		if got > limit {
			t.Errorf("%s: %d bytes, want at most %d", what, got, limit)
		}
	}
	check("upsert", size(func() { x.Announce([]discovery.Endpoint{endpoint(1, 101)}, nil) }), 72)
	check("delete", size(func() { x.Announce(nil, []discovery.EndpointID{endpointID(1, 3)}) }), 26)
	check("ack", len(x.Ack()), 24)
	check("announce", len(table.Announce{At: table.Version{Inc: 300, Ver: 20000}}.Append(nil)), 16)
	entry := len(table.Digest{Entries: make([]table.DigestEntry, 2)}.Append(nil)) - len(table.Digest{Entries: make([]table.DigestEntry, 1)}.Append(nil))
	check("digest entry of a new owner", entry, 14)
	pull := table.Pull{Owners: []table.PullEntry{{Have: table.Version{Inc: 300, Ver: 20000}}}}
	check("pull entry", len(pull.Append(nil))-len(table.Pull{}.Append(nil)), 14)
	check("gone", len(table.Gone{By: "a-name-of-some-length"}.Append(nil)), 100)
	y := exchange(t, 2, header(2))
	converge(x, y)
	b, err := y.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	check("state of an owner of 100 endpoints", len(b), 6500)
}

func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Append(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := table.Parse(b)
		if err != nil {
			if !errors.Is(err, discovery.ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		again, err := table.Parse(m.Append(nil))
		if err != nil {
			t.Fatalf("%s does not come back: %v", hex.EncodeToString(b), err)
		}
		if diff := cmp.Diff(m, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("not stable:\n%s", diff)
		}
	})
}

// FuzzReceive feeds a member anything: it must not crash, and must go on.
func FuzzReceive(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x := exchange(t, 2, header(2), endpoints(2, 2)...)
		x.SetMember(start, hostID(1), netip.AddrPort{}, discovery.StatusAlive)
		if _, err := x.Receive(start, b); err != nil && !errors.Is(err, discovery.ErrMalformed) {
			t.Errorf("error %v does not wrap ErrMalformed", err)
		}
		x.Acked(start, hostID(1), b)
		x.Tick(start)
		x.Flush()
		x.View()
		blob, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.New(table.Config{Self: hostID(2), Saved: blob, Now: start}); err != nil {
			t.Errorf("what was saved does not load: %v", err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	x := exchange(&testing.T{}, 1, fullHeader, fullEndpoint)
	y := exchange(&testing.T{}, 2, header(2))
	converge(x, y)
	b, _ := y.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := table.New(table.Config{Self: hostID(2), Saved: b, Now: start}); err != nil && !errors.Is(err, discovery.ErrMalformed) {
			t.Errorf("error %v does not wrap ErrMalformed", err)
		}
	})
}

// FuzzAcked: whatever a probe's answer carries, it is compared or refused.
func FuzzAcked(f *testing.F) {
	x := exchange(f, 1, header(1))
	f.Add(x.Ack())
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		x := exchange(t, 1, header(1))
		x.SetMember(start, hostID(2), netip.AddrPort{}, discovery.StatusAlive)
		if err := x.Acked(start, hostID(2), b); err != nil && !errors.Is(err, discovery.ErrMalformed) {
			t.Errorf("%x: %v", b, err)
		}
		x.Tick(start)
		if got := x.OwnVersion(); got != (table.Version{Inc: 1, Ver: 1}) {
			t.Errorf("%x: the own version is %v", b, got)
		}
	})
}
