package table_test

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/table"
)

func recordOf(t *testing.T, v discovery.View, id discovery.EndpointID) discovery.Record {
	t.Helper()
	for _, r := range v.Endpoints {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no record of %s", id)
	return discovery.Record{}
}

// TestNamesOfADownMember walks through what a member can come to, with the
// time since it was found down.
func TestNamesOfADownMember(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  discovery.HeaderFlags
		grace  time.Duration
		status discovery.MemberStatus
		after  time.Duration
		want   discovery.EndpointStatus
		hidden bool
	}{
		{"alive", 0, 0, discovery.StatusAlive, time.Hour, discovery.EndpointLive, false},
		{"suspect", 0, 0, discovery.StatusSuspect, time.Hour, discovery.EndpointLive, false},
		{"dead without grace", 0, 0, discovery.StatusDead, 0, discovery.EndpointSuspended, true},
		{"dead within the grace", 0, 10 * time.Second, discovery.StatusDead, 9 * time.Second, discovery.EndpointSuspended, false},
		{"dead after the grace", 0, 10 * time.Second, discovery.StatusDead, 10 * time.Second, discovery.EndpointSuspended, true},
		{"back soon", discovery.FlagBackSoon, 0, discovery.StatusDead, 59 * time.Second, discovery.EndpointSuspended, false},
		{"back soon, but it was not", discovery.FlagBackSoon, 0, discovery.StatusDead, time.Minute, discovery.EndpointSuspended, true},
		{"its kernel answers", 0, 0, discovery.StatusAgentDown, time.Hour, discovery.EndpointLive, false},
		{"left without a last version", 0, 0, discovery.StatusLeft, 0, discovery.EndpointSuspended, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := header(1)
			h.Flags = c.flags
			a := exchange(t, 1, h, endpoint(1, 1))
			tb, err := table.New(table.Config{Self: hostID(2), Header: header(2), Grace: c.grace, Now: start})
			if err != nil {
				t.Fatal(err)
			}
			b := newHost(tb, 1)
			converge(a, b)
			at := start.Add(time.Hour)
			b.SetMember(at, hostID(1), netip.AddrPort{}, c.status)
			b.Tick(at.Add(c.after))
			r := recordOf(t, b.View(), endpointID(1, 1))
			if r.Status != c.want || r.Hidden != c.hidden {
				t.Errorf("status %v, hidden %v; want %v, %v", r.Status, r.Hidden, c.want, c.hidden)
			}
			b.SetMember(at.Add(2*time.Hour), hostID(1), netip.AddrPort{}, discovery.StatusAlive)
			if r := recordOf(t, b.View(), endpointID(1, 1)); r.Status != discovery.EndpointLive || r.Hidden {
				t.Errorf("seen again: status %v, hidden %v", r.Status, r.Hidden)
			}
		})
	}
}

// The number of a claim is what its owner makes it: it decides nothing.
func TestAddressAnnouncedTwice(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		name        string
		seq         uint64              // of the endpoint that came second
		network     discovery.NetworkID // and its network
		holder      int                 // of the address, as the pool has it; 0: not known
		firstLoses  bool
		secondLoses bool
	}{
		{"who had it before keeps it", most, discovery.NetworkID{1}, 0, false, true},
		{"the pool says that it is the first one's", most, discovery.NetworkID{1}, 1, false, true},
		{"the pool says that it is the second one's", 0, discovery.NetworkID{1}, 2, true, false},
		{"the pool says that it is a third one's", 0, discovery.NetworkID{1}, 3, false, true},
		{"another network is another address", most, discovery.NetworkID{2}, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := endpoint(1, 1), endpoint(2, 1)
			second.IPv4, second.Network, second.Seq = first.IPv4, c.network, c.seq
			a, b, w := exchange(t, 1, header(1), first), exchange(t, 2, header(2)), exchange(t, 4, header(4))
			all := []host{a, b, w}
			for _, x := range all {
				if c.holder > 0 {
					x.SetHolder(func(n discovery.NetworkID, at netip.Addr) (discovery.HostID, bool) {
						return hostID(c.holder), n == first.Network && at == first.IPv4
					})
				}
			}
			converge(all...)
			b.Announce([]discovery.Endpoint{second}, nil)
			converge(all...)
			for _, x := range []host{a, w} {
				v := x.View()
				if got := recordOf(t, v, first.ID).Conflicted; got != c.firstLoses {
					t.Errorf("%v: first conflicted %v, want %v", x, got, c.firstLoses)
				}
				if got := recordOf(t, v, second.ID).Conflicted; got != c.secondLoses {
					t.Errorf("%v: second conflicted %v, want %v", x, got, c.secondLoses)
				}
			}
			b.Announce(nil, []discovery.EndpointID{second.ID})
			converge(all...)
			if recordOf(t, a.View(), first.ID).Conflicted {
				t.Error("conflicted with an endpoint that is gone")
			}
		})
	}
}

// What the pool says of an address counts at once, also for endpoints that nothing
// else changes.
func TestTheHolderIsToldLater(t *testing.T) {
	first, second := endpoint(1, 1), endpoint(2, 1)
	second.IPv4 = first.IPv4
	a, b := exchange(t, 1, header(1), first), exchange(t, 2, header(2), second)
	converge(a, b)
	for _, holder := range []int{2, 1} {
		a.SetHolder(func(discovery.NetworkID, netip.Addr) (discovery.HostID, bool) { return hostID(holder), true })
		v := a.View()
		if one, two := recordOf(t, v, first.ID).Conflicted, recordOf(t, v, second.ID).Conflicted; one != (holder == 2) || two != (holder == 1) {
			t.Errorf("host %d holds it: conflicted %v and %v", holder, one, two)
		}
	}
}

// A MAC that a user chose is one endpoint's: the one that had it first, unless its
// host is dead.
func TestMACAnnouncedTwice(t *testing.T) {
	first, second := endpoint(1, 1), endpoint(2, 1)
	first.MAC = discovery.MAC{2, 5: 7} // that a user chose
	second.MAC = first.MAC
	a, b, w := exchange(t, 1, header(1), first), exchange(t, 2, header(2)), exchange(t, 4, header(4))
	converge(a, b, w)
	b.Announce([]discovery.Endpoint{second}, nil)
	converge(a, b, w)
	if v := w.View(); recordOf(t, v, first.ID).Conflicted || !recordOf(t, v, second.ID).Conflicted {
		t.Error("the later one has the MAC, want the first one")
	}
	w.SetMember(start.Add(time.Hour), hostID(1), netip.AddrPort{}, discovery.StatusDead)
	if v := w.View(); !recordOf(t, v, first.ID).Conflicted || recordOf(t, v, second.ID).Conflicted {
		t.Error("the dead host's endpoint has the MAC, want the living one's")
	}
}

// What cannot be an endpoint's is held, so that tables can be compared and handed
// on, and is in no view.
func TestWhatIsRefusedIsHeldAndNotShown(t *testing.T) {
	good, bad := endpoint(1, 1), endpoint(1, 2)
	bad.IPv4 = netip.MustParseAddr("224.0.0.1")
	h := header(1)
	h.VTEP, h.MTU = netip.MustParseAddr("127.0.0.1"), 576
	a, b := exchange(t, 1, h, good, bad), exchange(t, 2, header(2))
	converge(a, b)
	if a.Root() != b.Root() {
		t.Error("the tables differ")
	}
	v := b.View()
	if len(v.Endpoints) != 1 || v.Endpoints[0].ID != good.ID {
		t.Errorf("view: %v, want the good endpoint alone", v.Endpoints)
	}
	if m := v.Member(hostID(1)); m.Name != "h1" || m.Header.VTEP.IsValid() || m.Header.MTU != 0 {
		t.Errorf("member: %+v, want a name alone", m)
	}
	if len(v.Refused) != 2 || v.Refused[0].Host != hostID(1) || v.Refused[1].What != "endpoint "+bad.ID.String() {
		t.Errorf("refused: %v, want the header and the endpoint", v.Refused)
	}
	a.SetHeader(func(h *discovery.Header) { h.VTEP, h.MTU = netip.MustParseAddr("192.0.2.1"), 1500 })
	a.Announce(nil, []discovery.EndpointID{bad.ID})
	converge(a, b)
	if v := b.View(); len(v.Refused) != 0 || v.Member(hostID(1)).Header.MTU != 1500 {
		t.Errorf("refused: %v, want nothing any more", v.Refused)
	}
}

// Of one host so much is held as is configured. When it announces less again all of
// it is held.
func TestAHostAnnouncesTooMuch(t *testing.T) {
	const most = 100
	a, b := exchange(t, 1, header(1), endpoints(1, 50)...), limited(t, 2, most)
	converge(a, b)
	many := endpoints(1, 2*most)
	for _, e := range many[50:] {
		a.Announce([]discovery.Endpoint{e}, nil)
		converge(a, b)
	}
	v := b.View()
	if n := len(v.Endpoints); n > most || n < 50 || len(v.Refused) != 1 || !strings.Contains(v.Refused[0].Why, "more than 100 endpoints") {
		t.Errorf("%d endpoints, refused %v; want 100 at most, and that said once", n, v.Refused)
	}
	if took := b.Stats().Pulls; took > 10 {
		t.Errorf("%d pulls, want the rest to be left alone", took)
	}
	for _, e := range many[60:] {
		a.Announce(nil, []discovery.EndpointID{e.ID})
	}
	converge(a, b)
	convergeAt(start.Add(2*time.Minute), a, b)
	if v := b.View(); len(v.Endpoints) != 60 || len(v.Refused) != 0 || a.Root() != b.Root() {
		t.Errorf("%d endpoints, refused %v, want all 60", len(v.Endpoints), v.Refused)
	}
}

// A host that is not admitted is not held, whatever speaks of it; once it is, it is
// like any other.
func TestAHostThatIsNotAdmitted(t *testing.T) {
	open, spoken := false, false
	tb, err := table.New(table.Config{Self: hostID(2), Incarnation: 1, Header: header(2), Now: start,
		Admit: func(id discovery.HostID, running bool) bool { return open || running && spoken || id != hostID(1) }})
	if err != nil {
		t.Fatal(err)
	}
	a, b := exchange(t, 1, header(1), endpoints(1, 3)...), host{tb, table.NewExchange(tb, 1, 2)}
	converge(a, b)
	if v := b.View(); len(v.Endpoints) != 0 || len(v.Members) != 1 {
		t.Errorf("members %v, endpoints %v: want this host alone", v.Members, v.Endpoints)
	}
	spoken = true
	convergeAt(start.Add(time.Minute), a, b)
	if v := b.View(); b.Owners() != 2 || len(v.Endpoints) != 0 || len(v.Members) != 1 {
		t.Errorf("%d owners, members %v, endpoints %v: want it held and not shown", b.Owners(), v.Members, v.Endpoints)
	}
	open = true
	b.Reconsider(nil)
	if v := b.View(); len(v.Endpoints) != 3 || len(v.Members) != 2 {
		t.Errorf("members %v, endpoints %v: want both", v.Members, v.Endpoints)
	}
	open, spoken = false, false
	b.Reconsider([]discovery.HostID{hostID(1)})
	if v := b.View(); len(v.Endpoints) != 0 || len(v.Members) != 1 || b.Forgotten(hostID(1)) {
		t.Errorf("members %v, endpoints %v: want this host alone", v.Members, v.Endpoints)
	}
}

func TestViewIsKeptWhileNothingChanges(t *testing.T) {
	x := exchange(t, 1, header(1), endpoints(1, 50)...)
	first := x.View()
	if got := testing.AllocsPerRun(100, func() { x.View() }); got > 0 {
		t.Errorf("%v allocations for an unchanged view", got)
	}
	before := x.Revision()
	if x.Announce([]discovery.Endpoint{endpoint(1, 3)}, []discovery.EndpointID{endpointID(1, 999)}) {
		t.Error("an equal endpoint and an unknown id made a version")
	}
	if x.SetHeader(func(*discovery.Header) {}) || x.Revision() != before {
		t.Error("an unchanged header made a version")
	}
	if diff := cmp.Diff(first, x.View(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestEqualTablesGiveEqualEndpoints(t *testing.T) {
	a, b := exchange(t, 1, header(1), endpoints(1, 20)...), exchange(t, 2, header(2), endpoints(2, 20)...)
	converge(a, b)
	if a.Root() != b.Root() {
		t.Fatal("roots differ")
	}
	if diff := cmp.Diff(a.View().Endpoints, b.View().Endpoints, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("views of equal tables differ:\n%s", diff)
	}
}

func TestRestoredOwnersCountAsAliveFor15s(t *testing.T) {
	a, b := exchange(t, 1, header(1), endpoint(1, 1)), exchange(t, 2, header(2))
	converge(a, b)
	blob, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again := func() *table.Table {
		tb, err := table.New(table.Config{Self: hostID(2), Incarnation: 1, Saved: blob, Now: start})
		if err != nil {
			t.Fatal(err)
		}
		return tb
	}
	tb := again()
	if got := tb.OwnVersion().Inc; got != 2 {
		t.Errorf("incarnation %d after one of 1, want 2 though the caller's was lost", got)
	}
	if v := tb.View(); v.Complete || recordOf(t, v, endpointID(1, 1)).Status != discovery.EndpointLive {
		t.Error("right after the start: want the endpoint live and the view not complete")
	}
	tb.Expire(start.Add(15*time.Second - 1))
	if tb.View().Complete {
		t.Error("complete before the owner was given up")
	}
	tb.Expire(start.Add(15 * time.Second))
	if v := tb.View(); !v.Complete || recordOf(t, v, endpointID(1, 1)).Status != discovery.EndpointSuspended {
		t.Error("after 15 s: want the endpoint suspended and the view complete")
	}
	tb = again()
	x := newHost(tb, 1)
	converge(a, x)
	if !x.View().Complete {
		t.Error("not complete although the only owner was compared")
	}
}

// The names of a host that was dead long before the agent's restart do not come
// back with it, and are there as soon as the host is. Apart from its names such a
// host is waited for like any other.
func TestNamesOfADeadHostStayHiddenOverARestart(t *testing.T) {
	a, b := exchange(t, 1, header(1), endpoint(1, 1)), exchange(t, 2, header(2))
	a.SetHeader(func(h *discovery.Header) { h.Flags |= discovery.FlagBackSoon })
	converge(a, b)
	save := func(x interface{ MarshalBinary() ([]byte, error) }) []byte {
		blob, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return blob
	}
	again := func(saved []byte) *table.Table {
		tb, err := table.New(table.Config{Self: hostID(2), Saved: saved, Now: start})
		if err != nil {
			t.Fatal(err)
		}
		return tb
	}
	check := func(when string, tb *table.Table, hidden, complete bool, status discovery.EndpointStatus) {
		t.Helper()
		v := tb.View()
		if r := recordOf(t, v, endpointID(1, 1)); r.Hidden != hidden || v.Complete != complete || r.Status != status {
			t.Errorf("%s: hidden %t, complete %t, %v; want %t, %t, %v", when, r.Hidden, v.Complete, r.Status, hidden, complete, status)
		}
	}

	b.SetMember(start, hostID(1), netip.AddrPort{}, discovery.StatusAgentDown)
	check("saved with its agent down", again(save(b)), false, false, discovery.EndpointLive)
	b.SetMember(start, hostID(1), netip.AddrPort{}, discovery.StatusAlive)
	b.SetMember(start, hostID(1), netip.AddrPort{}, discovery.StatusDead)
	check("saved within its grace", again(save(b)), false, false, discovery.EndpointLive)
	before := b.StoredRevision()
	b.Tick(start.Add(time.Hour))
	if b.StoredRevision() == before {
		t.Error("nothing to save although its names were hidden")
	}
	saved := save(b)

	tb := again(saved)
	check("after a restart", tb, true, false, discovery.EndpointLive)
	check("after two", again(save(tb)), true, false, discovery.EndpointLive)
	check("with a field of a newer agent", again(append(slices.Clone(saved), 60<<1|1, 1, 0xff)), true, false, discovery.EndpointLive)
	tb.Expire(start.Add(15*time.Second - 1))
	check("for 15 s", tb, true, false, discovery.EndpointLive)
	tb.Expire(start.Add(15 * time.Second))
	check("given up", tb, true, true, discovery.EndpointSuspended)

	tb = again(saved)
	revision := tb.Revision()
	tb.SetMember(start, hostID(1), netip.AddrPort{}, discovery.StatusAlive)
	check("seen alive", tb, false, false, discovery.EndpointLive)
	if tb.Revision() == revision {
		t.Error("seen alive: the view did not change")
	}
	tb.Expire(start.Add(15 * time.Second))
	check("alive and not compared yet", tb, false, false, discovery.EndpointLive)
}

// Two hosts that were started again remember the same state of a third, which has
// gone on since: neither is a witness for the other.
func TestAMemoryIsNotConfirmedByAnother(t *testing.T) {
	third := exchange(t, 3, header(3))
	var again [2]host
	for i := range again {
		x := exchange(t, i, header(i))
		converge(third, x)
		saved, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		tb, err := table.New(table.Config{Self: hostID(i), Header: header(i), Saved: saved, Now: start})
		if err != nil {
			t.Fatal(err)
		}
		again[i] = newHost(tb, uint64(i))
	}
	third.Announce([]discovery.Endpoint{endpoint(3, 1)}, nil)
	converge(again[0], again[1])
	for i, x := range again {
		if x.View().Complete {
			t.Errorf("host %d takes what another remembers for what is", i)
		}
	}
	converge(again[0], third)
	if v := again[0].View(); !v.Complete || len(v.Endpoints) != 1 {
		t.Errorf("compared with the third: complete %t, %d endpoints", v.Complete, len(v.Endpoints))
	}
	converge(again[1], again[0])
	if v := again[1].View(); !v.Complete || len(v.Endpoints) != 1 {
		t.Errorf("compared with one that is complete: complete %t, %d endpoints", v.Complete, len(v.Endpoints))
	}
}

func TestIncarnationIsRaisedAboveOneThatIsShown(t *testing.T) {
	c := discoverytest.New(start, 1)
	nodes := startHosts(t, c, 3, 2)
	await(t, c, 10*time.Second, "start", c.Converged)
	for range 5 {
		nodes[2].Announce([]discovery.Endpoint{endpoint(2, 9)}, nil)
		nodes[2].Announce(nil, []discovery.EndpointID{endpointID(2, 9)})
	}
	await(t, c, 10*time.Second, "changes", c.Converged)
	nodes[2].Kill()
	// The disk is that of the first day: same incarnation, other endpoints.
	nodes[2] = startHost(t, c, discoverytest.Config{Self: hostID(2), Incarnation: 1, Header: header(2), Endpoints: []discovery.Endpoint{endpoint(2, 40)}})
	await(t, c, 10*time.Second, "refuted", c.Converged)
	if got := nodes[2].Stats().Refutes; got == 0 {
		t.Error("nothing was refuted")
	}
}

func TestStateLargerThanAMessageComesInParts(t *testing.T) {
	eps := make([]discovery.Endpoint, 0, 12000)
	for i := range 12000 {
		e := endpoint(1, i)
		e.ID, e.IPv4 = endpointID(1, i), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		eps = append(eps, e)
	}
	a, b := exchange(t, 1, header(1), eps...), limited(t, 2, len(eps))
	now := start
	b.SetMember(now, hostID(1), netip.AddrPort{}, discovery.StatusAlive)
	a.SetMember(now, hostID(2), netip.AddrPort{}, discovery.StatusAlive)
	b.Started(now, hostID(1), 1)
	b.Tick(now)
	for _, p := range b.Take() {
		if _, err := a.Receive(now, p.Body); err != nil {
			t.Fatal(err)
		}
	}
	parts := 0
	for _, p := range a.Take() {
		if p.Kind != table.KindState {
			continue
		}
		parts++
		if len(p.Body) > table.MaxState {
			t.Errorf("a state of %d bytes, want at most %d", len(p.Body), table.MaxState)
		}
		if got := len(b.View().Endpoints); got != 0 {
			t.Errorf("%d endpoints before the last part", got)
		}
		if _, err := b.Receive(now, p.Body); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(b.View().Endpoints); got != len(eps) || parts < 2 {
		t.Errorf("%d endpoints after %d parts, want %d", got, parts, len(eps))
	}
}

// TestThousandOwners is the size that the design is made for.
func TestThousandOwners(t *testing.T) {
	big := thousandOwners(t)
	digest := len(big.Digest())
	t.Logf("digest of 1000 owners: %d bytes", digest)
	if digest > 20_000 {
		t.Errorf("digest of %d bytes, want at most 20 KB", digest)
	}
	v := big.View()
	if len(v.Endpoints) != 100_000 {
		t.Fatalf("%d endpoints, want 100000", len(v.Endpoints))
	}
	began := time.Now()
	big.Announce([]discovery.Endpoint{endpoint(0, 200)}, nil)
	big.View()
	t.Logf("view of 100000 endpoints built in %v", time.Since(began))

	began = time.Now()
	joiner := exchange(t, 5000, header(5000))
	converge(big, joiner)
	t.Logf("joiner has %d endpoints after %v of work", len(joiner.View().Endpoints), time.Since(began))
	if joiner.Root() != big.Root() {
		t.Error("the joiner's table differs")
	}
	if got := len(joiner.Digest()); got > 20_000 {
		t.Errorf("digest above 1000 owners is %d bytes", got)
	}
	// Above the limit one changed owner costs bucket hashes and one bucket.
	joiner.Announce([]discovery.Endpoint{endpoint(5000, 1)}, nil)
	big.Compare(joiner.Self())
	for _, p := range big.Take() {
		if len(p.Body) > 2200 {
			t.Errorf("%v of %d bytes, want bucket hashes only", p.Kind, len(p.Body))
		}
	}
	converge(big, joiner)
	if joiner.Root() != big.Root() {
		t.Error("not equal after a comparison by buckets")
	}
}

// thousandOwners returns host 0 with the states of 999 others, a hundred endpoints
// each.
func thousandOwners(t testing.TB) host {
	t.Helper()
	hundred := func(i int) []discovery.Endpoint { // each with the MAC that is made of its address
		all := endpoints(i, 100)
		for k := range all {
			all[k].MAC = discovery.MAC(append([]byte{0x0e, 0}, all[k].IPv4.AsSlice()...))
		}
		return all
	}
	big := exchange(t, 0, header(0), hundred(0)...)
	for i := 1; i < 1000; i++ {
		transfer(t, exchange(t, i, header(i), hundred(i)...), big)
	}
	return big
}

// transfer hands the whole state of an owner to another host.
func transfer(t testing.TB, from, to host) {
	t.Helper()
	from.SetMember(start, to.Self(), netip.AddrPort{}, discovery.StatusAlive)
	pull := table.Pull{From: to.Self(), Owners: []table.PullEntry{{Owner: table.ShortOf(from.Self())}}}
	if _, err := from.Receive(start, pull.Append(nil)); err != nil {
		t.Fatal(err)
	}
	for _, p := range from.Take() {
		if p.Kind == table.KindState {
			if _, err := to.Receive(start, p.Body); err != nil {
				t.Fatal(err)
			}
		}
	}
	to.Take()
}

func TestChangeTooLargeForDatagramsIsAnnouncedAndPulled(t *testing.T) {
	a, b := exchange(t, 1, header(1)), exchange(t, 2, header(2))
	converge(a, b)
	a.Announce(endpoints(1, 100), nil)
	a.Flush()
	for _, p := range a.Take() {
		if p.Kind != table.KindAnnounce {
			t.Errorf("sent a %v of %d bytes, want an announce", p.Kind, len(p.Body))
		}
		if _, err := b.Receive(start, p.Body); err != nil {
			t.Fatal(err)
		}
	}
	converge(a, b)
	if got := len(b.View().Endpoints); got != 100 {
		t.Errorf("%d endpoints, want 100", got)
	}
}

func TestDatagramsNeverExceedTheirLimit(t *testing.T) {
	a, b := exchange(t, 1, header(1)), exchange(t, 2, header(2))
	converge(a, b)
	for i := range 200 {
		a.Announce([]discovery.Endpoint{endpoint(1, i)}, nil)
	}
	a.Flush()
	out := a.Take()
	if len(out) < 10 {
		t.Fatalf("%d datagrams for 200 versions", len(out))
	}
	for i := len(out) - 1; i >= 0; i-- { // the receiving queue turns them round
		if n := len(out[i].Body); n > table.MaxDatagram {
			t.Errorf("datagram of %d bytes", n)
		}
		if _, err := b.Receive(start, out[i].Body); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(b.View().Endpoints); got != 200 {
		t.Errorf("%d endpoints from datagrams in reverse order, want 200 without a pull", got)
	}
	for _, p := range b.Take() {
		if p.Kind == table.KindPull {
			t.Error("pulled although nothing was lost")
		}
	}
}

func TestOwnEndpointsArePendingUntilShown(t *testing.T) {
	a, b := exchange(t, 1, header(1)), exchange(t, 2, header(2))
	a.Announce(endpoints(1, 1), nil)
	if got := recordOf(t, a.View(), endpointID(1, 0)).Status; got != discovery.EndpointLive {
		t.Errorf("alone: %v, want live", got)
	}
	converge(a, b)
	a.Announce([]discovery.Endpoint{endpoint(1, 1)}, nil)
	if got := recordOf(t, a.View(), endpointID(1, 1)).Status; got != discovery.EndpointPending {
		t.Errorf("not sent yet: %v, want pending", got)
	}
	if got := recordOf(t, a.View(), endpointID(1, 0)).Status; got != discovery.EndpointLive {
		t.Errorf("an older one: %v, want live", got)
	}
	converge(a, b)
	if got := recordOf(t, a.View(), endpointID(1, 1)).Status; got != discovery.EndpointLive {
		t.Errorf("after the exchange: %v, want live", got)
	}
}

// Whoever has the key can send it: one message ends nothing.
func TestOneMemberSaysThatAHostIsForgotten(t *testing.T) {
	a, b := exchange(t, 1, header(1), endpoints(1, 2)...), exchange(t, 2, header(2))
	converge(a, b)
	if _, err := a.Receive(start, table.Gone{ID: hostID(1), By: "h2"}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if by := a.GoneSaid(); by != "h2" || a.GoneSaid() != "" {
		t.Errorf("said by %q, want it told once", by)
	}
	if a.Silent() || a.Forgotten(hostID(1)) {
		t.Error("the host takes itself for forgotten")
	}
	a.Announce([]discovery.Endpoint{endpoint(1, 3)}, nil)
	convergeAt(start.Add(time.Minute), a, b)
	if got := len(b.View().Endpoints); got != 3 {
		t.Errorf("the other shows %d endpoints, want 3", got)
	}
}
