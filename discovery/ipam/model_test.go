package ipam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/discovery"
)

// ledger is what the callers believe they hold: the truth that the managers
// are checked against.
type ledger struct {
	mu   sync.Mutex
	held map[netip.Addr]held
	bad  []string
}

type held struct {
	host  *host
	owner discovery.EndpointID
}

func (l *ledger) granted(h *host, id discovery.EndpointID, a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x, twice := l.held[a]; twice && (x.host != h || x.owner != id) {
		l.bad = append(l.bad, fmt.Sprintf("%s: given to %s %s while %s %s has it", a, h.name, id, x.host.name, x.owner))
	}
	l.held[a] = held{h, id}
}

// freeing must come before Free: afterwards the address may be anybody's.
func (l *ledger) freeing(h *host, id discovery.EndpointID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, x := range l.held {
		if x.host == h && x.owner == id {
			delete(l.held, a)
		}
	}
}

func (l *ledger) of(h *host) map[discovery.EndpointID]netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[discovery.EndpointID]netip.Addr{}
	for a, x := range l.held {
		if x.host == h {
			out[x.owner] = a
		}
	}
	return out
}

// expected reports whether a Lease may fail with err in a world of faults.
func expected(err error) bool {
	_, taken := errors.AsType[*TakenError](err)
	_, away := errors.AsType[*AwayError](err)
	return taken || away || errors.Is(err, ErrFull) || errors.Is(err, ErrStoreAway) || errors.Is(err, ErrOther) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, discovery.ErrMalformed) // no answer of a killed lender
}

// model drives a world at random.
type model struct {
	*world
	rt     *rapid.T
	n      discovery.Network
	ledger *ledger
	kills  int
	files  []*bbolt.DB
	addrs  []netip.Addr
}

func (m *model) anyHost() *host {
	return m.hosts[rapid.IntRange(0, len(m.hosts)-1).Draw(m.rt, "host")]
}

func (m *model) owner(h *host) discovery.EndpointID {
	return owner(int(h.id[0])*100 + rapid.IntRange(0, 7).Draw(m.rt, "owner"))
}

func (m *model) lease(h *host, id discovery.EndpointID, want netip.Addr) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := h.m.Lease(ctx, m.n, id, want)
	if err == nil {
		m.ledger.granted(h, id, l.Addr.Addr())
		m.announce(h, m.n, id, "", l.Addr.Addr())
	} else if !expected(err) {
		m.rt.Errorf("%s: lease: %v", h.name, err)
	}
}

func (m *model) free(h *host, id discovery.EndpointID) {
	m.ledger.freeing(h, id)
	m.withdraw(id)
	if err := h.m.Free(context.Background(), m.n.ID, id); err != nil {
		m.rt.Errorf("%s: free: %v", h.name, err)
	}
}

// kill stops h in the middle of a lease and a free, and checks that what had
// been granted is there again. What the caller never heard of is freed, as the
// agent does that finds a lease without its endpoint.
func (m *model) kill(h *host) {
	type result struct {
		id   discovery.EndpointID
		addr netip.Addr
	}
	results, over := make(chan result, 8), make(chan struct{})
	old, id, want := h.m, m.owner(h), m.maybe()
	_, already := m.ledger.of(h)[id]
	go func() {
		defer close(over)
		if l, err := old.Lease(context.Background(), m.n, id, want); err == nil {
			results <- result{id, l.Addr.Addr()}
		}
	}()
	freed := m.owner(h)
	if freed != id {
		m.ledger.freeing(h, freed)
		m.withdraw(freed)
		if err := old.Free(context.Background(), m.n.ID, freed); err != nil {
			m.rt.Errorf("free: %v", err)
		}
	}
	time.Sleep(time.Duration(rapid.IntRange(0, 3000).Draw(m.rt, "ms")) * time.Millisecond)
	select {
	case r := <-results:
		m.ledger.granted(h, r.id, r.addr)
	default:
	}
	m.kills++
	m.files = append(m.files, h.kill(filepath.Join(m.dir, fmt.Sprintf("killed%d.db", m.kills))))
	<-over
	m.afterKill(h)
	if _, still := m.ledger.of(h)[id]; already && !still {
		m.rt.Errorf("%s: owner %s lost its lease", h.name, id)
	}
}

func (m *model) afterKill(h *host) {
	granted := m.ledger.of(h)
	found := map[discovery.EndpointID]netip.Addr{}
	for _, o := range h.m.Leases() {
		found[o.Owner] = o.Addr.Addr()
	}
	for id, a := range granted {
		if found[id] != a {
			m.rt.Errorf("%s: %s was granted %s, after the restart it has %v", h.name, id, a, found[id])
		}
	}
	for id := range found {
		if _, ok := granted[id]; !ok {
			m.free(h, id)
		}
	}
}

func (m *model) maybe() netip.Addr {
	if rapid.IntRange(0, 2).Draw(m.rt, "static") > 0 {
		return netip.Addr{}
	}
	return rapid.SampledFrom(m.addrs).Draw(m.rt, "want")
}

func (m *model) burst(*rapid.T) {
	var wg sync.WaitGroup
	for _, h := range m.hosts {
		for range rapid.IntRange(0, 3).Draw(m.rt, "leases") {
			id, want := m.owner(h), m.maybe()
			wg.Go(func() { m.lease(h, id, want) })
		}
	}
	wg.Wait()
}

func (m *model) faults(*rapid.T) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(m.rt, "seed"), 0))
	before, after := rapid.IntRange(0, 20).Draw(m.rt, "before"), rapid.IntRange(0, 20).Draw(m.rt, "after")
	hang := rapid.IntRange(0, 4).Draw(m.rt, "hang") == 0
	seed := r.Uint64()
	slow := upTo(rand.New(rand.NewPCG(seed, 2)), time.Second)
	m.pool.set(func() { m.pool.fault, m.pool.hang, m.pool.delay = sometimes(r, before, after), hang, slow })
	mute := m.anyHost().id
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loanFault = sometimes(rand.New(rand.NewPCG(seed, 1)), before, after)
	m.mute = map[discovery.HostID]bool{mute: rapid.Bool().Draw(m.rt, "mute")}
}

func (m *model) heal() {
	m.pool.set(func() { m.pool.fault, m.pool.hang, m.pool.delay = nil, false, nil })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute, m.loanFault = map[discovery.HostID]bool{}, nil
}

func (m *model) check(*rapid.T) {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	for _, bad := range m.ledger.bad {
		m.rt.Error(bad)
	}
	m.ledger.bad = nil
}

// quiesce frees everything, lets the hours pass, and expects nothing to be
// left anywhere, and every address to be had by one host.
func (m *model) quiesce() {
	m.heal()
	for _, h := range m.hosts {
		for id := range m.ledger.of(h) {
			m.free(h, id)
		}
	}
	time.Sleep(3 * rereadTime)
	synctest.Wait()
	m.expectNothing()
	for i := range m.addrs {
		if l, err := m.hosts[0].m.Lease(context.Background(), m.n, owner(5000+i), netip.Addr{}); err != nil {
			m.rt.Errorf("one host of %d addresses, the %dth: %v", len(m.addrs), i, err)
		} else {
			m.ledger.granted(m.hosts[0], owner(5000+i), l.Addr.Addr())
		}
	}
}

func (m *model) expectNothing() {
	if len(m.pool.heldBlocks()) > 0 || len(m.pool.heldAddrs()) > 0 {
		m.rt.Errorf("leaked in the pool: %v, %v", m.pool.heldBlocks(), m.pool.heldAddrs())
	}
	for _, h := range m.hosts {
		for _, x := range allHeld(h) {
			m.rt.Errorf("%s: leaked %+v", h.name, x)
		}
		for _, b := range [][]byte{bucketAddresses, bucketReturns} {
			if got := records(m.t, h.db, b); got != 0 {
				m.rt.Errorf("%s: %d records leaked in %s", h.name, got, b)
			}
		}
	}
}

func TestModel(t *testing.T) {
	for _, cidr := range []string{"192.0.2.0/28", "192.0.2.0/29", "192.0.2.0/26"} {
		t.Run(cidr, func(t *testing.T) { checkModel(t, cidr, 3) })
	}
}

func checkModel(t *testing.T, cidr string, hosts int) {
	root, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		mkdir(t, dir)
		var failed any // rapid ends a run by a panic, which must not leave the bubble
		synctest.Test(t, func(t *testing.T) {
			defer func() { failed = recover() }()
			m := &model{world: newWorld(t, dir), rt: rt, n: blue(t, cidr), ledger: &ledger{held: map[netip.Addr]held{}}}
			m.addrs = slices.Collect(m.n.Subnets[0].Usable(m.n.Subnets[0].CIDR))
			for range hosts {
				m.add().run()
			}
			defer m.finish()
			m.drive()
		})
		if failed != nil {
			panic(failed)
		}
	})
}

func (m *model) drive() {
	m.rt.Repeat(map[string]func(*rapid.T){
		"":       m.check,
		"lease":  func(*rapid.T) { h := m.anyHost(); m.lease(h, m.owner(h), m.maybe()) },
		"burst":  m.burst,
		"free":   func(*rapid.T) { h := m.anyHost(); m.free(h, m.owner(h)) },
		"faults": m.faults,
		"heal":   func(*rapid.T) { m.heal() },
		"pass":   func(*rapid.T) { time.Sleep(time.Duration(rapid.IntRange(0, 1200).Draw(m.rt, "s")) * time.Second) },
		"restart": func(*rapid.T) {
			h := m.anyHost()
			h.restart()
			m.afterKill(h)
		},
		"kill": func(*rapid.T) { m.kill(m.anyHost()) },
	})
	m.quiesce()
	m.check(m.rt)
}

func (m *model) finish() {
	m.close()
	for _, db := range m.files {
		if err := db.Close(); err != nil {
			m.rt.Error(err)
		}
	}
}

// TestTenHostsRaceForASmallNetwork allocates a hundred thousand times on a /28
// whose pool loses a tenth of its requests and answers.
func TestTenHostsRaceForASmallNetwork(t *testing.T) {
	want := 100_000
	if testing.Short() {
		want = 500
	}
	bubble(t, 10, func(t *testing.T, w *world) {
		r := rand.New(rand.NewPCG(1, 2))
		w.pool.set(func() {
			w.pool.fault = sometimes(r, 5, 5)
			w.pool.delay = upTo(rand.New(rand.NewPCG(3, 4)), time.Millisecond)
		})
		n, l := blue(t, "192.0.2.0/28"), &ledger{held: map[netip.Addr]held{}}
		var count sync.Mutex
		got := 0
		more := func(by int) bool {
			count.Lock()
			defer count.Unlock()
			got += by
			return got < want
		}
		var wg sync.WaitGroup
		for i, h := range w.hosts {
			for j := range 2 {
				wg.Go(func() {
					id, r := owner(100*i+j), rand.New(rand.NewPCG(uint64(i), uint64(j)))
					for more(0) {
						var ask netip.Addr
						if b := h.m.Held(); r.IntN(2) == 0 && len(b) > 0 {
							ask = b[0].Prefix.Addr().Next()
						}
						x, err := h.m.Lease(t.Context(), n, id, ask)
						for range 25 { // as a container does that restarts and restarts
							if err != nil || !more(1) {
								break
							}
							l.granted(h, id, x.Addr.Addr())
							time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
							l.freeing(h, id)
							mustFree(t, h, n, id)
							x, err = h.m.Lease(t.Context(), n, id, x.Addr.Addr())
						}
						if err == nil {
							mustFree(t, h, n, id)
						} else if !expected(err) && !errors.Is(err, ErrReserved) {
							t.Errorf("lease: %v", err)
						}
						time.Sleep(time.Duration(r.IntN(10_000)) * time.Millisecond)
					}
				})
			}
		}
		wg.Wait()
		for _, bad := range l.bad {
			t.Error(bad)
		}
		t.Logf("%d allocations, %d requests to the pool", got, w.pool.asked())
	})
}

// TestTwoHundredKills is the crash run: an agent killed in the middle of
// claims, loans and leases, two hundred times.
func TestTwoHundredKills(t *testing.T) {
	dir, kills := t.TempDir(), 200
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		n, l := blue(t, "192.0.2.0/28"), &ledger{held: map[netip.Addr]held{}}
		for range 3 {
			w.add().run()
		}
		addrs := slices.Collect(n.Subnets[0].Usable(n.Subnets[0].CIDR))
		var old []*bbolt.DB
		for i := range kills {
			h, r := w.hosts[i%3], rand.New(rand.NewPCG(uint64(i), 7))
			w.pool.set(func() {
				w.pool.fault, w.pool.delay = sometimes(rand.New(rand.NewPCG(uint64(i), 9)), 5, 5), upTo(rand.New(rand.NewPCG(uint64(i), 8)), time.Millisecond)
			})
			var wg sync.WaitGroup
			for j := range 6 {
				m, g, id := h.m, h.gate, owner(100*int(h.id[0])+j)
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					if _, held := l.of(h)[id]; held {
						l.freeing(h, id)
						if err := m.Free(ctx, n.ID, id); err != nil {
							t.Errorf("free: %v", err)
						}
						return
					}
					want := netip.Addr{}
					if r := rand.New(rand.NewPCG(uint64(i), uint64(j))); r.IntN(2) == 0 {
						want = addrs[r.IntN(len(addrs))]
					}
					x, err := m.Lease(ctx, n, id, want)
					g.mu.RLock()
					defer g.mu.RUnlock()
					if err == nil && !g.shut { // else nobody was there to hear it
						l.granted(h, id, x.Addr.Addr())
					}
				})
			}
			time.Sleep(time.Duration(r.IntN(8000)) * time.Microsecond)
			old = append(old, h.kill(filepath.Join(dir, fmt.Sprintf("killed%d.db", i))))
			wg.Wait()
			found := map[discovery.EndpointID]netip.Addr{}
			for _, o := range h.m.Leases() {
				found[o.Owner] = o.Addr.Addr()
			}
			for id, a := range l.of(h) {
				if found[id] != a {
					t.Fatalf("kill %d: %s was granted %s, after it has %v", i, id, a, found[id])
				}
			}
			for id := range found {
				if _, known := l.of(h)[id]; !known {
					mustFree(t, h, n, id)
				}
			}
			if i%10 == 0 {
				time.Sleep(time.Minute)
			}
		}
		w.pool.set(func() { w.pool.fault, w.pool.delay = nil, nil })
		for _, h := range w.hosts {
			for id := range l.of(h) {
				l.freeing(h, id)
				mustFree(t, h, n, id)
			}
		}
		time.Sleep(3 * rereadTime)
		synctest.Wait()
		for _, bad := range l.bad {
			t.Error(bad)
		}
		if len(w.pool.heldBlocks()) > 0 || len(w.pool.heldAddrs()) > 0 {
			t.Errorf("leaked: %v, %v", w.pool.heldBlocks(), w.pool.heldAddrs())
		}
		w.close()
		for _, db := range old {
			db.Close()
		}
	})
}
