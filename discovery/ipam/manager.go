package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

const (
	quarantine = 10 * time.Second // a freed address is not given again before: resolvers and peers may still hold it
	drainTime  = 10 * time.Minute // an unused block goes back after
	rereadTime = time.Hour        // between two looks at what the pool says of our blocks
	loanCheck  = time.Minute      // after a loan: whether the borrower took it up
	lostRetry  = time.Minute      // between two looks while a block of ours is not ours in the pool
	fullRetry  = time.Minute      // between two claims ahead while the network has no free block
	storeWait  = 5 * time.Second  // the longest that a request waits for the pool and for other members
	loanWait   = time.Second      // for the answer of a member
	maxBackoff = 30 * time.Second // between background attempts while the pool is away
)

// Pool is who owns which block, and which single addresses are reserved. Reads
// must not be stale, and an error must never look like an empty answer. All
// methods wrap discovery.ErrStoreAway when the store cannot be asked; then a
// write may have happened or not.
type Pool interface {
	// ClaimBlock claims a free block of n's IPv4 or IPv6 subnet, none for which
	// taken is true; discovery.ErrFull when there is none.
	ClaimBlock(ctx context.Context, n discovery.Network, host discovery.HostID, nonce uint64, v6 bool, taken func(netip.Prefix) bool) (discovery.Block, error)
	// ReleaseBlock gives a block back if it still is as b says.
	ReleaseBlock(ctx context.Context, b discovery.Block) error
	// Blocks lists every host's blocks of a network.
	Blocks(ctx context.Context, id discovery.NetworkID) ([]discovery.Block, error)
	// BlockAt finds the block that covers a, if one is held.
	BlockAt(ctx context.Context, n discovery.Network, a netip.Addr) (b discovery.Block, held bool, err error)
	// Reserve reserves a for host: outside every block, or, with lent, in that
	// block as long as it is unchanged, else discovery.ErrCovered.
	// *discovery.TakenError names another host that has it reserved; what host
	// reserved before is its own.
	Reserve(ctx context.Context, n discovery.Network, a netip.Addr, host discovery.HostID, lent *discovery.Block) (seq uint64, err error)
	// Unreserve ends host's reservation of a; nil when there is none.
	Unreserve(ctx context.Context, id discovery.NetworkID, a netip.Addr, host discovery.HostID) error
	// Reserved lists the reservations of addresses in within.
	Reserved(ctx context.Context, id discovery.NetworkID, within netip.Prefix) (map[netip.Addr]discovery.Reservation, error)
}

// Config is what a Manager needs. Every field but Log is required.
type Config struct {
	Self  discovery.HostID
	Nonce uint64 // of this start of the agent
	Disk  *Disk  // the buckets "blocks", "addresses" and "returns" are ours
	Pool  Pool
	// Lend asks another member's Manager, which answers with Serve.
	Lend func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
	View func() discovery.View
	Log  *slog.Logger // nil: none
}

// Lease is an address that an endpoint may use until it is freed.
type Lease struct {
	Addr netip.Prefix // with the subnet's length
	Seq  uint64       // of the claim behind it, for discovery.Endpoint.Seq
}

// Owned is a lease and whose it is.
type Owned struct {
	Lease
	Network discovery.NetworkID
	Owner   discovery.EndpointID
}

// Manager hands out addresses. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	disk    *Disk
	wake    pace.Signal // Run has something to look at
	changes pace.Signal // of Blocks

	mu      sync.Mutex // guards what follows, and the networks' and blocks' fields
	nets    map[discovery.NetworkID]*network
	returns map[uint64]*pendingReturn
	number  uint64    // of the newest pendingReturn
	gen     uint64    // counts what could make an older read of the pool wrong
	quiet   time.Time // Run does nothing before: something failed
	backoff pace.Backoff
}

// network is what we hold of one network.
type network struct {
	// life is held for reading by whoever works on the network, so that Drop
	// begins when all have ended; gone tells them to.
	life sync.RWMutex
	gone context.Context
	drop context.CancelFunc

	latest atomic.Pointer[discovery.Network] // as the last request gave it

	// blocksLock (capacity 1) is held by whoever claims, adopts or gives back
	// blocks of the network: nothing may be taken up from an older look at the
	// pool that was given back since.
	blocksLock chan struct{}

	blocks       []*block
	held         map[netip.Addr]*holding // every address in use: leased, lent, or being given back
	owners       map[ownerKey]*holding
	claims       map[bool]*flight        // claims under way, by family (true: IPv6)
	aheadAt      map[bool]time.Time      // no claim ahead of need before
	claimInDoubt bool                    // the pool may hold a block for us that we do not know
	lent         map[netip.Addr]*holding // to come into force when the address is let go
	returned     uint64                  // gen of the last loan that ended
	rereadAt     time.Time
}

// ownerKey is an endpoint and a family: it has one address of each.
type ownerKey struct {
	id discovery.EndpointID
	v6 bool
}

// holding is one address in use, or an owner's slot before it has one.
type holding struct {
	addr     netip.Addr
	state    addressState
	owner    discovery.EndpointID
	host     discovery.HostID // lent: to whom; leased and reserved: the lender
	reserved bool
	seq      uint64
	loan     uint64
	busy     chan struct{}  // closed when what is being done to it is over; nil at rest
	back     *pendingReturn // it is being given back
	gen      uint64         // when it was last lent, confirmed or leased, for reads that began before
	since    time.Time      // lent: when; zero after a restart
}

func (h *holding) record() addressRecord {
	return addressRecord{State: h.state, Owner: h.owner, Host: h.host, Reserved: h.reserved, Seq: h.seq, Loan: h.loan}
}

// New reads what was persisted. It fails when the file cannot be written or is
// of a newer schema.
func New(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		cfg:     cfg,
		disk:    cfg.Disk,
		wake:    pace.NewSignal(),
		changes: pace.NewSignal(),
		backoff: pace.Backoff{First: time.Second, Most: maxBackoff},
		nets:    map[discovery.NetworkID]*network{},
		returns: map[uint64]*pendingReturn{},
	}
	if err := m.load(time.Now()); err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	return m, nil
}

// Blocks returns the blocks in hand of each network, sorted, for the host's
// header.
func (m *Manager) Blocks() []discovery.HeaderNetwork {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []discovery.HeaderNetwork
	for id, nw := range m.nets {
		if len(nw.blocks) == 0 {
			continue
		}
		h := discovery.HeaderNetwork{VNI: nw.spec().VNI, ID: id}
		for _, b := range nw.blocks {
			h.Blocks = append(h.Blocks, b.Prefix)
		}
		slices.SortFunc(h.Blocks, netip.Prefix.Compare)
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b discovery.HeaderNetwork) int { return cmp.Compare(a.VNI, b.VNI) })
	return out
}

// Held returns the blocks in hand as they were claimed, for a pool that was
// wiped and is filled again.
func (m *Manager) Held() []discovery.Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []discovery.Block
	for _, nw := range m.nets {
		for _, b := range nw.blocks {
			out = append(out, b.Block)
		}
	}
	return out
}

// HeldAddrs returns the leased addresses that the pool records one by one, for a
// pool that was wiped too, in no order.
func (m *Manager) HeldAddrs() []discovery.ReservedAddr {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []discovery.ReservedAddr
	for id, nw := range m.nets {
		for _, h := range nw.owners {
			if h.reserved && h.busy == nil && h.back == nil {
				out = append(out, discovery.ReservedAddr{Network: id, Addr: h.addr, Seq: h.seq})
			}
		}
	}
	return out
}

// Leases returns every lease, in no order: what stands here without an
// endpoint of that id has leaked and is for Free.
func (m *Manager) Leases() []Owned {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Owned
	for id, nw := range m.nets {
		for key, h := range nw.owners {
			if h.busy == nil {
				out = append(out, Owned{Lease: nw.lease(h), Network: id, Owner: key.id})
			}
		}
	}
	return out
}

// Changes signals at least once after each change of Blocks.
func (m *Manager) Changes() <-chan struct{} { return m.changes }

// enter returns what we hold of n, for as long as the returned context lives;
// leave must be called.
func (m *Manager) enter(ctx context.Context, n discovery.Network) (_ context.Context, nw *network, leave func()) {
	for {
		m.mu.Lock()
		nw = m.nets[n.ID]
		if nw == nil {
			nw = newNetwork(n)
			nw.rereadAt = time.Now().Add(rereadTime) // nothing of it is held yet
			m.nets[n.ID] = nw
		}
		nw.latest.Store(&n)
		m.mu.Unlock()
		if ctx, leave, ok := m.hold(ctx, nw); ok {
			return ctx, nw, leave
		}
	}
}

// find is enter for a network that must be known already.
func (m *Manager) find(ctx context.Context, id discovery.NetworkID) (_ context.Context, nw *network, leave func(), ok bool) {
	m.mu.Lock()
	nw = m.nets[id]
	m.mu.Unlock()
	if nw == nil {
		return ctx, nil, nil, false
	}
	ctx, leave, ok = m.hold(ctx, nw)
	return ctx, nw, leave, ok
}

// hold keeps Drop away from nw until leave; ok is false when it was dropped.
func (m *Manager) hold(ctx context.Context, nw *network) (_ context.Context, leave func(), ok bool) {
	nw.life.RLock()
	m.mu.Lock()
	gone := nw.gone
	known := m.nets[nw.id()] == nw
	m.mu.Unlock()
	if !known {
		nw.life.RUnlock()
		return ctx, nil, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(gone, func() { cancel(ErrDeleting) })
	return ctx, func() {
		stop()
		cancel(nil)
		nw.life.RUnlock()
	}, true
}

func newNetwork(n discovery.Network) *network {
	nw := &network{
		blocksLock: make(chan struct{}, 1),
		lent:       map[netip.Addr]*holding{},
		held:       map[netip.Addr]*holding{},
		owners:     map[ownerKey]*holding{},
		claims:     map[bool]*flight{},
		aheadAt:    map[bool]time.Time{},
	}
	nw.latest.Store(&n)
	nw.gone, nw.drop = context.WithCancel(context.Background())
	return nw
}

func (nw *network) spec() discovery.Network { return *nw.latest.Load() }

func (nw *network) id() discovery.NetworkID { return nw.latest.Load().ID }

// lockBlocks waits for nw.blocksLock; unlockBlocks must follow when it returns nil.
func (nw *network) lockBlocks(ctx context.Context) error {
	select {
	case nw.blocksLock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return away(ctx, ctx.Err())
	}
}

func (nw *network) unlockBlocks() { <-nw.blocksLock }

// subnet returns the network's subnet of the family.
func (nw *network) subnet(v6 bool) (discovery.Subnet, bool) { return subnetOf(nw.spec(), v6) }

func subnetOf(n discovery.Network, v6 bool) (discovery.Subnet, bool) {
	for _, s := range n.Subnets {
		if s.CIDR.Addr().Is6() == v6 {
			return s, true
		}
	}
	return discovery.Subnet{}, false
}

// blockOf returns our block that covers a, nil if none does.
func (nw *network) blockOf(a netip.Addr) *block {
	for _, b := range nw.blocks {
		if b.Prefix.Contains(a) {
			return b
		}
	}
	return nil
}

func (nw *network) lease(h *holding) Lease {
	s, _ := nw.subnet(h.addr.Is6())
	return Lease{Addr: netip.PrefixFrom(h.addr, s.CIDR.Bits()), Seq: h.seq}
}

// family yields the blocks of one family that may be taken from.
func (nw *network) family(v6 bool) []*block {
	var out []*block
	for _, b := range nw.blocks {
		if !b.lost && b.Prefix.Addr().Is6() == v6 {
			out = append(out, b)
		}
	}
	return out
}

// release ends the use of an address. Manager.mu is held.
func (nw *network) release(h *holding, saved bool) {
	if lent := nw.lent[h.addr]; lent != nil {
		delete(nw.lent, h.addr)
		nw.held[h.addr] = lent
		return
	}
	delete(nw.held, h.addr)
	if b := nw.blockOf(h.addr); b != nil {
		b.put(h.addr, time.Now(), saved)
	}
}

// away makes a deadline that ran out while the pool was asked an ErrStoreAway,
// and a network that was dropped meanwhile an ErrDeleting.
func away(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), ErrDeleting):
		return ErrDeleting
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrStoreAway):
		return fmt.Errorf("%w: %w", ErrStoreAway, err)
	}
	return err
}
