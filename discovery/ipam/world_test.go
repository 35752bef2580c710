package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// fakePool is a linearizable pool that can be away, and can lose requests and
// answers.
type fakePool struct {
	mu       sync.Mutex
	index    uint64
	blocks   map[string]discovery.Block
	reserved map[string]reservation
	fault    func() fault // nil: none
	delay    func() time.Duration
	hang     bool // requests get no answer at all
	calls    int
}

type reservation struct {
	discovery.Reservation
	network discovery.NetworkID
	addr    netip.Addr
}

type fault int

const (
	faultNone fault = iota
	faultBefore
	faultAfter
)

func newFakePool() *fakePool {
	return &fakePool{blocks: map[string]discovery.Block{}, reserved: map[string]reservation{}}
}

// do runs one request with the pool's faults.
func (p *fakePool) do(ctx context.Context, f func() error) error {
	p.mu.Lock()
	hang, delay := p.hang, p.delay
	p.mu.Unlock()
	if delay != nil {
		// On the way there and on the way back, so that a process can die in
		// between.
		time.Sleep(delay())
		defer func() { time.Sleep(delay()) }()
	}
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	how := faultNone
	if p.fault != nil {
		how = p.fault()
	}
	if how == faultBefore {
		return fmt.Errorf("%w: request lost", discovery.ErrStoreAway)
	}
	err := f()
	if how == faultAfter {
		return fmt.Errorf("%w: answer lost", discovery.ErrStoreAway)
	}
	return err
}

func (p *fakePool) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *fakePool) heldBlocks() map[string]discovery.Block {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.blocks)
}

func (p *fakePool) heldAddrs() map[string]reservation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.reserved)
}

func (p *fakePool) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func blockName(id discovery.NetworkID, b netip.Prefix) string { return id.String() + "/" + b.String() }
func addrName(id discovery.NetworkID, a netip.Addr) string    { return id.String() + "/" + a.String() }

func (p *fakePool) ClaimBlock(ctx context.Context, n discovery.Network, host discovery.HostID, _ uint64, v6 bool, taken func(netip.Prefix) bool) (out discovery.Block, err error) {
	err = p.do(ctx, func() error {
		i := slices.IndexFunc(n.Subnets, func(s discovery.Subnet) bool { return s.CIDR.Addr().Is6() == v6 })
		s := n.Subnets[i]
		for i := range min(s.Blocks(), 1<<12) {
			b := s.Block((i + uint64(host[0])) % s.Blocks())
			if _, held := p.blocks[blockName(n.ID, b)]; held || taken(b) {
				continue
			}
			p.index++
			out = discovery.Block{Network: n.ID, Prefix: b, Host: host, State: discovery.BlockActive, Seq: p.index, Index: p.index}
			p.blocks[blockName(n.ID, b)] = out
			return nil
		}
		return discovery.ErrFull
	})
	return out, err
}

var errChanged = errors.New("block changed")

func (p *fakePool) ReleaseBlock(ctx context.Context, b discovery.Block) error {
	return p.do(ctx, func() error {
		name := blockName(b.Network, b.Prefix)
		if now, held := p.blocks[name]; !held || now.Index != b.Index {
			return errChanged
		}
		delete(p.blocks, name)
		return nil
	})
}

func (p *fakePool) Blocks(ctx context.Context, n discovery.Network) (out []discovery.Block, err error) {
	err = p.do(ctx, func() error {
		for _, b := range p.blocks {
			if b.Network == n.ID {
				out = append(out, b)
			}
		}
		return nil
	})
	return out, err
}

func (p *fakePool) BlockAt(ctx context.Context, n discovery.Network, a netip.Addr) (b discovery.Block, held bool, err error) {
	err = p.do(ctx, func() error {
		b, held = p.cover(n, a)
		return nil
	})
	return b, held, err
}

func (p *fakePool) cover(n discovery.Network, a netip.Addr) (discovery.Block, bool) {
	s, _ := n.Covering(a)
	b, held := p.blocks[blockName(n.ID, s.BlockOf(a))]
	return b, held
}

func (p *fakePool) Reserve(ctx context.Context, n discovery.Network, a netip.Addr, host discovery.HostID, lent *discovery.Block) (seq uint64, err error) {
	err = p.do(ctx, func() error {
		if r, ok := p.reserved[addrName(n.ID, a)]; ok {
			if seq = r.Seq; r.Host != host {
				return &discovery.TakenError{Addr: a, Host: r.Host}
			}
			return nil
		}
		b, held := p.cover(n, a)
		if held != (lent != nil) || held && b.Index != lent.Index {
			return discovery.ErrCovered
		}
		p.index++
		seq = p.index
		p.reserved[addrName(n.ID, a)] = reservation{discovery.Reservation{Host: host, Seq: seq}, n.ID, a}
		return nil
	})
	return seq, err
}

func (p *fakePool) Unreserve(ctx context.Context, id discovery.NetworkID, a netip.Addr, host discovery.HostID) error {
	return p.do(ctx, func() error {
		if p.reserved[addrName(id, a)].Host == host {
			delete(p.reserved, addrName(id, a))
		}
		return nil
	})
}

func (p *fakePool) Reserved(ctx context.Context, id discovery.NetworkID, within netip.Prefix) (map[netip.Addr]discovery.Reservation, error) {
	out := map[netip.Addr]discovery.Reservation{}
	err := p.do(ctx, func() error {
		for _, r := range p.reserved {
			if r.network == id && within.Contains(r.addr) {
				out[r.addr] = r.Reservation
			}
		}
		return nil
	})
	return out, err
}

// world is a few hosts, their pool, and what gossip would tell each of them.
type world struct {
	t    testing.TB
	dir  string
	pool *fakePool

	mu        sync.Mutex
	hosts     []*host
	endpoints map[discovery.EndpointID]discovery.Record
	mute      map[discovery.HostID]bool // does not answer
	dead      map[discovery.HostID]bool // as gossip sees it
	loanFault func() fault
	lent      func() // called after a message was answered, before the answer arrives
}

// host is one Manager and its disk. kill replaces it the hard way.
type host struct {
	w    *world
	id   discovery.HostID
	name string
	file string

	mu   sync.Mutex
	m    *Manager
	db   *bbolt.DB
	gate *gate
	stop context.CancelFunc
	over chan struct{}
}

// gate is a process's way to the outside: once it is shut nothing that the
// process does reaches anybody, nor is it answered.
type gate struct {
	*fakePool
	mu   sync.RWMutex
	shut bool
}

var errKilled = fmt.Errorf("%w: killed", discovery.ErrStoreAway)

func (g *gate) check() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.shut {
		return errKilled
	}
	return nil
}

func (g *gate) ClaimBlock(ctx context.Context, n discovery.Network, h discovery.HostID, nonce uint64, v6 bool, taken func(netip.Prefix) bool) (discovery.Block, error) {
	if err := g.check(); err != nil {
		return discovery.Block{}, err
	}
	b, err := g.fakePool.ClaimBlock(ctx, n, h, nonce, v6, taken)
	return b, errors.Join(err, g.check())
}

func (g *gate) ReleaseBlock(ctx context.Context, b discovery.Block) error {
	if err := g.check(); err != nil {
		return err
	}
	return g.fakePool.ReleaseBlock(ctx, b)
}

func (g *gate) Reserve(ctx context.Context, n discovery.Network, a netip.Addr, h discovery.HostID, lent *discovery.Block) (uint64, error) {
	if err := g.check(); err != nil {
		return 0, err
	}
	seq, err := g.fakePool.Reserve(ctx, n, a, h, lent)
	return seq, errors.Join(err, g.check())
}

func (g *gate) Unreserve(ctx context.Context, id discovery.NetworkID, a netip.Addr, h discovery.HostID) error {
	if err := g.check(); err != nil {
		return err
	}
	return g.fakePool.Unreserve(ctx, id, a, h)
}

func newWorld(t testing.TB, dir string) *world {
	return &world{
		t: t, dir: dir, pool: newFakePool(),
		endpoints: map[discovery.EndpointID]discovery.Record{},
		mute:      map[discovery.HostID]bool{}, dead: map[discovery.HostID]bool{},
	}
}

func hostID(i int) discovery.HostID { return discovery.HostID{byte(i), 0xee} }

// add starts another host.
func (w *world) add() *host {
	i := len(w.hosts) + 1
	h := &host{w: w, id: hostID(i), name: fmt.Sprintf("host%d", i), file: filepath.Join(w.dir, fmt.Sprintf("leases%d.db", i))}
	h.open(h.file)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts = append(w.hosts, h)
	return h
}

func (w *world) close() {
	for _, h := range w.hosts {
		h.close()
	}
}

func openDB(t testing.TB, file string) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (h *host) open(file string) {
	db, g := openDB(h.w.t, file), &gate{fakePool: h.w.pool}
	m, err := New(Config{Self: h.id, Nonce: 1, Disk: NewDisk(&boltfile.DB{DB: db}), Pool: g, View: h.w.view,
		Lend: func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
			if err := g.check(); err != nil {
				return nil, err
			}
			return h.w.lend(ctx, h.id, to, body)
		}})
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.m, h.db, h.gate = m, db, g
}

// run starts the manager's Run.
func (h *host) run() {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.over = cancel, make(chan struct{})
	m := h.manager()
	go func() {
		defer close(h.over)
		if err := m.Run(ctx); err != nil {
			h.w.t.Errorf("run: %v", err)
		}
	}()
}

func (h *host) manager() *Manager {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m
}

// serve answers a message; the process is not killed in the middle of it.
func (h *host) serve(from discovery.HostID, body []byte) []byte {
	h.mu.Lock()
	m, g := h.m, h.gate
	h.mu.Unlock()
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.shut {
		return nil
	}
	return m.Serve(from, body)
}

func (h *host) halt() {
	if h.stop != nil {
		h.stop()
		<-h.over
		h.stop = nil
	}
}

func (h *host) close() {
	h.halt()
	if err := h.db.Close(); err != nil {
		h.w.t.Error(err)
	}
}

// restart is a planned stop and start.
func (h *host) restart() {
	running := h.stop != nil
	h.close()
	h.open(h.file)
	if running {
		h.run()
	}
}

// kill starts the host again from the disk as it is at this moment. What the
// old process still has under way reaches nobody, and is nobody's any more.
// The caller closes the old file when its requests have ended.
func (h *host) kill(file string) (old *bbolt.DB) {
	h.gate.mu.Lock()
	h.gate.shut = true
	h.gate.mu.Unlock()
	var image bytes.Buffer
	if err := h.db.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&image); return err }); err != nil {
		h.w.t.Fatal(err)
	}
	if err := os.WriteFile(file, image.Bytes(), 0o600); err != nil {
		h.w.t.Fatal(err)
	}
	old, running := h.db, h.stop != nil
	h.halt()
	h.file = file
	h.open(file)
	if running {
		h.run()
	}
	return old
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) host(id discovery.HostID) *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.hosts, func(h *host) bool { return h.id == id })
	return w.hosts[i]
}

func (w *world) lend(ctx context.Context, from, to discovery.HostID, body []byte) ([]byte, error) {
	w.mu.Lock()
	mute, how := w.mute[to], faultNone
	if w.loanFault != nil {
		how = w.loanFault()
	}
	w.mu.Unlock()
	w.pool.mu.Lock()
	delay := w.pool.delay
	w.pool.mu.Unlock()
	if delay != nil {
		time.Sleep(delay())
		defer func() { time.Sleep(delay()) }()
	}
	if mute || how == faultBefore {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	out := w.host(to).serve(from, body)
	w.mu.Lock()
	then := w.lent
	w.mu.Unlock()
	if then != nil {
		then()
	}
	if how == faultAfter {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return out, nil
}

func (w *world) view() discovery.View {
	w.mu.Lock()
	hosts := slices.Clone(w.hosts)
	v := discovery.View{Endpoints: slices.Collect(maps.Values(w.endpoints))}
	dead := maps.Clone(w.dead)
	w.mu.Unlock()
	for _, h := range hosts {
		status := discovery.StatusAlive
		if dead[h.id] {
			status = discovery.StatusDead
		}
		v.Members = append(v.Members, discovery.Member{ID: h.id, Name: h.name, Status: status,
			Header: discovery.Header{Networks: h.manager().Blocks()}})
	}
	return v
}

// announce makes the view show an endpoint of h.
func (w *world) announce(h *host, n discovery.Network, id discovery.EndpointID, name string, a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := discovery.Record{Endpoint: discovery.Endpoint{ID: id, Network: n.ID, Name: name}, Host: h.id}
	if a.Is4() {
		r.IPv4 = a
	} else {
		r.IPv6 = a
	}
	w.endpoints[id] = r
}

func (w *world) withdraw(id discovery.EndpointID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.endpoints, id)
}

func owner(i int) discovery.EndpointID {
	return discovery.EndpointID{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 0xaa}
}

// blue is a network with one subnet for each CIDR, its first address the gateway.
func blue(t testing.TB, cidrs ...string) discovery.Network {
	t.Helper()
	n := discovery.Network{ID: discovery.NetworkID{1}, Name: "blue", VNI: 4096, State: discovery.NetworkUp}
	for _, c := range cidrs {
		p := netip.MustParsePrefix(c)
		n.Subnets = append(n.Subnets, discovery.Subnet{CIDR: p, Gateway: p.Addr().Next(), Bits: discovery.BlockBits(p)})
	}
	return n
}

var none netip.Addr

func mustLease(t testing.TB, h *host, n discovery.Network, id discovery.EndpointID, want string) netip.Addr {
	t.Helper()
	var a netip.Addr
	if want != "" {
		a = netip.MustParseAddr(want)
	}
	l, err := h.m.Lease(t.Context(), n, id, a)
	if err != nil {
		t.Fatalf("%s: lease %q: %v", h.name, want, err)
	}
	return l.Addr.Addr()
}

func mustFree(t testing.TB, h *host, n discovery.Network, id discovery.EndpointID) {
	t.Helper()
	if err := h.m.Free(t.Context(), n.ID, id); err != nil {
		t.Fatalf("%s: free: %v", h.name, err)
	}
}

// upTo makes delays at random.
func upTo(r *rand.Rand, most time.Duration) func() time.Duration {
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(int64(most)))
	}
}

// sometimes makes faults with the given chances, in percent.
func sometimes(r *rand.Rand, before, after int) func() fault {
	return func() fault {
		switch x := r.IntN(100); {
		case x < before:
			return faultBefore
		case x < before+after:
			return faultAfter
		}
		return faultNone
	}
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// network is what h holds of a network.
func (h *host) network(id discovery.NetworkID) *network {
	h.m.nets.mu.Lock()
	defer h.m.nets.mu.Unlock()
	return h.m.nets.all[id]
}

// heldAt is a copy of what h holds or lends at a; nil: nothing.
func heldAt(h *host, n discovery.Network, a netip.Addr) *holding {
	nw := h.network(n.ID)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if x := nw.held[a]; x != nil {
		c := *x
		return &c
	}
	return nil
}

func allHeld(h *host) (out []holding) {
	h.m.nets.each(func(nw *network) {
		for _, x := range nw.held {
			out = append(out, *x)
		}
	})
	return out
}

func owns(h *host, n discovery.Network, a netip.Addr) bool {
	nw := h.network(n.ID)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	return nw.blockOf(a) != nil
}

func isLost(h *host, n discovery.Network) bool {
	nw := h.network(n.ID)
	nw.mu.Lock()
	defer nw.mu.Unlock()
	return nw.blocks[0].lost
}
