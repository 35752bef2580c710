package membership

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

var errAway = errors.New("away")

// world is the pool and the gossip of one host.
type world struct {
	Records

	mu      sync.Mutex
	hosts   []pool.Host
	away    bool
	removed map[discovery.HostID]bool
	reads   int
	wrote   []pool.Host
	view    discovery.View
	dropped []discovery.HostID
	forgot  []discovery.HostID
	running netip.AddrPort // where another instance of this host answers
}

func (w *world) Hosts(context.Context) ([]pool.Host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.away {
		return nil, errAway
	}
	return slices.Clone(w.hosts), nil
}

func (w *world) Removed(_ context.Context, id discovery.HostID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.away:
		return errAway
	case w.removed[id]:
		return &pool.ForgottenError{By: "host2"}
	}
	return nil
}

func (w *world) Register(_ context.Context, h pool.Host) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote = append(w.wrote, h)
	return nil
}

func (w *world) Join(context.Context, []netip.AddrPort, func(string)) ([]discovery.Member, error) {
	return nil, nil
}

func (w *world) View() discovery.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

func (w *world) Forget(ids []discovery.HostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgot = append(w.forgot, ids...)
}

func (w *world) Reconsider(drop []discovery.HostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropped = append(w.dropped, drop...)
}

func (w *world) Running(at netip.AddrPort) bool { return at == w.running }

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// inWorld is a member with its world, which has the member's own record.
func inWorld(t *testing.T) (*Membership, *world) {
	t.Helper()
	m, _ := kept(t)
	m.cfg.Advertise = netip.MustParseAddr("192.0.2.1")
	m.cluster.GossipPort = 4798
	w := &world{removed: map[discovery.HostID]bool{}}
	w.hosts = []pool.Host{m.Record(), other(2)}
	m.Use(w, w)
	return m, w
}

func other(n byte) pool.Host {
	a := netip.AddrFrom4([4]byte{192, 0, 2, n})
	return pool.Host{ID: discovery.HostID{n}, Name: "host" + string('0'+n), VTEP: a, Gossip: netip.AddrPortFrom(a, 4798)}
}

// run runs the member in the bubble until the test ends.
func run(t *testing.T, m *Membership) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, func() {}, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

func TestOneMemberSaysThatThisHostIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := inWorld(t)
		run(t, m)
		for _, c := range []struct {
			what string
			pool func(*world)
		}{
			{"the pool knows nothing of it", func(*world) {}},
			{"the pool is away", func(w *world) { w.away = true }},
		} {
			w.set(c.pool)
			m.GoneSaid("host9")
			time.Sleep(time.Minute)
			if err := m.Usable(); err != nil || len(w.forgot) != 0 {
				t.Errorf("%s: %v, gossip was told to forget %v", c.what, err, w.forgot)
			}
		}
		w.set(func(w *world) { w.away, w.removed[m.cfg.Host.ID] = false, true })
		m.GoneSaid("host9")
		time.Sleep(10 * time.Second)
		if m.ForgottenBy() != "agentctl leave --force by host2" || len(w.forgot) != 1 {
			t.Errorf("forgotten %q, gossip told %v: want what the pool says", m.ForgottenBy(), w.forgot)
		}
	})
}

func TestGossipTakesInWhomThePoolRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := inWorld(t)
		run(t, m)
		if !m.Hosts.Admits(discovery.HostID{2}, true) {
			t.Error("a registered host is not taken in")
		}
		in := 0
		for i := range 30_000 {
			if m.Hosts.Admits(discovery.HostID{9, byte(i), byte(i >> 8)}, true) {
				in++
			}
		}
		if m.Hosts.Admits(discovery.HostID{9, 1}, false) {
			t.Error("a host that does not run and is not registered is taken in")
		}
		if in != strangersMost {
			t.Errorf("%d of 30 000 invented hosts are taken in, want %d", in, strangersMost)
		}
		w.set(func(w *world) { w.hosts = append(w.hosts, other(3)) })
		m.Hosts.Admits(discovery.HostID{3}, true)
		time.Sleep(time.Second)
		if !m.Hosts.Admits(discovery.HostID{3}, true) {
			t.Error("a host that registered a second ago is not taken in")
		}
		time.Sleep(10 * time.Second)
		if n := len(w.dropped); n != strangersMost {
			t.Errorf("%d invented hosts were dropped, want all", n)
		}
		before := w.reads
		for range 60_000 {
			m.Hosts.Admits(discovery.HostID{9, byte(before)}, true)
			time.Sleep(time.Millisecond)
			before++
		}
		if got := w.reads; got > 30 {
			t.Errorf("the pool's hosts were read %d times in a minute of invented hosts", got)
		}
	})
}

// The pool lost a record, or all of them: what works goes on. A host that left is no
// member any more.
func TestOwnCopyOfTheHosts(t *testing.T) {
	m, w := inWorld(t)
	var saved []byte
	if err := m.Hosts.Restore(nil, func(b []byte) error { saved = b; return nil }); err != nil {
		t.Fatal(err)
	}
	if hosts, _ := m.Hosts.Registered(w.view); hosts != nil {
		t.Errorf("%v before the pool was read, want that it is not known", hosts)
	}
	two, three, four := other(2), other(3), other(4)
	member := func(h pool.Host, flags discovery.HeaderFlags) discovery.Member {
		return discovery.Member{ID: h.ID, Status: discovery.StatusAlive, Header: discovery.Header{VTEP: h.VTEP, Flags: flags}}
	}
	w.view.Members = []discovery.Member{member(two, 0), member(three, 0), member(four, 0)}
	m.setRegistered([]pool.Host{m.Record(), two, three, four})
	known := func(want ...discovery.HostID) {
		t.Helper()
		hosts, _ := m.Hosts.Registered(w.view)
		if got := slices.SortedFunc(maps.Keys(hosts), func(a, b discovery.HostID) int { return slices.Compare(a[:], b[:]) }); len(got) != len(want)+1 {
			t.Errorf("known %v, want this host and %v", got, want)
		}
		for _, id := range want {
			if _, ok := hosts[id]; !ok {
				t.Errorf("%s is not known", id)
			}
		}
	}
	known(two.ID, three.ID, four.ID)
	m.setRegistered([]pool.Host{m.Record(), two}) // the records of two were lost
	known(two.ID, three.ID, four.ID)
	w.view.Members[2] = member(four, discovery.FlagGone)
	m.setRegistered([]pool.Host{m.Record(), two})
	known(two.ID, three.ID)
	m.setRegistered(nil) // wiped
	known(two.ID, three.ID)
	if _, read := m.Hosts.Registered(w.view); read {
		t.Error("a wiped pool is taken for what the cluster is")
	}
	next, _ := inWorld(t)
	if err := next.Hosts.Restore(saved, nil); err != nil {
		t.Fatal(err)
	}
	if hosts, read := next.Hosts.Registered(w.view); len(hosts) != 3 || hosts[two.ID].VTEP != two.VTEP || read {
		t.Errorf("after a restart with the pool away: %v, %v", hosts, read)
	}
}

// A host that shows another address, or that is new, is looked up at once.
func TestHostsAreReadWhenGossipShowsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := inWorld(t)
		run(t, m)
		moved := other(2)
		moved.VTEP = netip.MustParseAddr("192.0.2.77")
		w.set(func(w *world) {
			w.hosts[1] = moved
			w.view.Members = []discovery.Member{{ID: moved.ID, Header: discovery.Header{VTEP: moved.VTEP}}}
		})
		m.Hosts.Registered(w.View())
		time.Sleep(time.Second)
		if hosts, read := m.Hosts.Registered(w.View()); hosts[moved.ID].VTEP != moved.VTEP || !read {
			t.Errorf("a second later: %v", hosts[moved.ID])
		}
	})
}

func TestTheNewcomerOfTwoInstancesEnds(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("192.0.2.9:4798")
	clone := func(t *testing.T) (*Membership, *world) {
		m, w := inWorld(t)
		w.running = elsewhere
		return m, w
	}
	check := func(t *testing.T, err error) {
		t.Helper()
		if got, ok := errors.AsType[*ClonedError](err); !ok || got.Other != elsewhere || !errors.Is(err, ErrCloned) {
			t.Errorf("got %v, want a ClonedError that names %s", err, elsewhere)
		}
	}
	t.Run("by its own copy, the pool away", func(t *testing.T) {
		m, w := clone(t)
		h := m.Record()
		h.Gossip = elsewhere
		m.setRegistered([]pool.Host{h})
		w.away = true
		check(t, m.Clones.CheckAlone(t.Context()))
	})
	t.Run("by the pool", func(t *testing.T) {
		m, w := clone(t)
		w.hosts[0].Gossip = elsewhere
		check(t, m.Clones.CheckAlone(t.Context()))
	})
	t.Run("as its record shows while it runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, w := clone(t)
			w.hosts[0].Gossip = elsewhere
			run(t, m)
			check(t, m.Clones.Watch(t.Context()))
			if len(w.wrote) != 0 {
				t.Errorf("the other one's record was replaced: %v", w.wrote)
			}
		})
	})
	t.Run("none runs there any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, w := inWorld(t)
			w.hosts[0].Gossip = elsewhere
			if err := m.Clones.CheckAlone(t.Context()); err != nil {
				t.Error(err)
			}
			run(t, m)
			if len(w.wrote) != 1 || w.wrote[0].Gossip != m.Record().Gossip {
				t.Errorf("wrote %v, want the record with the new address", w.wrote)
			}
		})
	})
}
