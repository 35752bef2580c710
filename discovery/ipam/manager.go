package ipam

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
	// Blocks lists every host's blocks of a network, whatever lies on its grid. Of a
	// network that was deleted the id suffices.
	Blocks(ctx context.Context, n discovery.Network) ([]discovery.Block, error)
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

// Config is what a Manager needs. Every field that may not be nil is required.
type Config struct {
	Self  discovery.HostID
	Nonce uint64 // of this start of the agent
	Disk  *Disk  // the buckets "blocks", "addresses" and "returns" are ours
	Pool  Pool
	// Lend asks another member's Manager, which answers with Serve.
	Lend func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
	View func() discovery.View
	// Running are the endpoints that run here, whatever the file says. May be nil.
	Running []Owned
	// Noted is told of each lease that begins, and of each that ends with freed. It must
	// not block. May be nil.
	Noted func(ctx context.Context, o Owned, freed bool)
	// Refuse is told of each record that is not whole. May be nil.
	Refuse func(source string, why error)
	Log    *slog.Logger // nil: none
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
	*shared
	lessor *lessor
	lender *lender
	keeper *keeper
}

// shared is what lessor, lender and keeper have in common.
type shared struct {
	cfg     Config
	nets    *networks
	number  atomic.Uint64 // of the newest pendingReturn
	wake    pace.Signal   // the keeper has something to look at
	changes pace.Signal   // of Manager.Blocks
}

// New reads what was persisted. It fails when the file cannot be written or is
// of a newer schema.
func New(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Pool = caughtPool{cfg.Pool, cfg.Log}
	if cfg.Refuse == nil {
		cfg.Refuse = func(string, error) {}
	}
	if cfg.Noted == nil {
		cfg.Noted = func(context.Context, Owned, bool) {}
	}
	found := loader{self: cfg.Self, now: time.Now(), refuse: cfg.Refuse, nets: map[discovery.NetworkID]*network{}}
	if err := found.load(cfg.Disk, cfg.Running); err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	s := &shared{cfg: cfg, nets: &networks{all: found.nets}, wake: pace.NewSignal(), changes: pace.NewSignal()}
	s.number.Store(found.number)
	m := &Manager{shared: s, lender: &lender{s}}
	m.keeper = &keeper{shared: s, lender: m.lender, backoff: pace.Backoff{First: time.Second, Most: maxBackoff}}
	m.lessor = &lessor{shared: s, lender: m.lender, keeper: m.keeper}
	return m, nil
}

// Lease gives owner an address of n: want, or any IPv4 one when want is zero. It
// is persisted before Lease returns. The same owner asking again gets the same
// lease.
//
// As long as the blocks in hand suffice nobody is asked. Otherwise Lease waits
// at most 5 s for the pool and other members, and when the network is full but
// an address of ours is in quarantine, until that has ended.
//
// Errors: *TakenError, *FullError, *AwayError, and wrapped ErrStoreAway,
// ErrOutside, ErrReserved, ErrOther and ErrDeleting; else what the disk said, and
// then no address is in use. No error names the network, which the caller knows.
func (m *Manager) Lease(ctx context.Context, n discovery.Network, owner discovery.EndpointID, want netip.Addr) (Lease, error) {
	return m.lessor.lease(ctx, n, owner, want)
}

// Free ends the owner's leases in the network, of both families. It never
// waits for the pool: what must be given back is persisted and queued. It
// returns nil when the owner has none, and leaves the lease as it was when the
// disk refuses.
func (m *Manager) Free(ctx context.Context, n discovery.NetworkID, owner discovery.EndpointID) error {
	return m.lessor.free(ctx, n, owner)
}

// Serve answers another member's Manager. What it grants is persisted first.
func (m *Manager) Serve(from discovery.HostID, body []byte) []byte {
	return m.lender.serve(from, body).encode()
}

// Run does what no request waits for: it gives back what is queued, claims the
// next block of a network before the last one is used up, gives back blocks
// that stay unused, and compares what we hold with what the pool says, at its
// start and hourly. It returns nil when ctx ends.
func (m *Manager) Run(ctx context.Context) error { return m.keeper.run(ctx) }

// Drop forgets a network that was deleted: its leases end, and its blocks and
// reservations are queued to be given back. Requests for it that are under way
// fail with ErrDeleting.
func (m *Manager) Drop(n discovery.NetworkID) error { return m.keeper.drop(n) }

// Blocks returns the blocks in hand of each network, sorted, for the host's
// header.
func (m *Manager) Blocks() []discovery.HeaderNetwork {
	var out []discovery.HeaderNetwork
	m.nets.each(func(nw *network) {
		if len(nw.blocks) == 0 {
			return
		}
		h := discovery.HeaderNetwork{VNI: nw.spec().VNI, ID: nw.id}
		for _, b := range nw.blocks {
			h.Blocks = append(h.Blocks, b.Prefix)
		}
		slices.SortFunc(h.Blocks, netip.Prefix.Compare)
		out = append(out, h)
	})
	slices.SortFunc(out, func(a, b discovery.HeaderNetwork) int { return cmp.Compare(a.VNI, b.VNI) })
	return out
}

// Held returns the blocks in hand as they were claimed, for a pool that was
// wiped and is filled again.
func (m *Manager) Held() []discovery.Block {
	var out []discovery.Block
	m.nets.each(func(nw *network) {
		for _, b := range nw.blocks {
			out = append(out, b.Block)
		}
	})
	return out
}

// Holds reports whether a block in hand covers the address.
func (m *Manager) Holds(id discovery.NetworkID, a netip.Addr) bool {
	nw := m.nets.get(id)
	if nw == nil {
		return false
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	b := nw.blockOf(a)
	return b != nil && !b.lost
}

// HeldAddrs returns the leased addresses that the pool records one by one, for a
// pool that was wiped too, in no order.
func (m *Manager) HeldAddrs() []discovery.ReservedAddr {
	var out []discovery.ReservedAddr
	m.nets.each(func(nw *network) {
		for _, h := range nw.owners {
			if h.reserved && !h.busy && h.back == nil {
				out = append(out, discovery.ReservedAddr{Network: nw.id, Addr: h.addr, Seq: h.seq})
			}
		}
	})
	return out
}

// Leases returns every lease, in no order: what stands here without an
// endpoint of that id has leaked and is for Free.
func (m *Manager) Leases() []Owned {
	var out []Owned
	m.nets.each(func(nw *network) {
		for key, h := range nw.owners {
			if !h.busy {
				out = append(out, Owned{Lease: nw.leaseOf(h), Network: nw.id, Owner: key.id})
			}
		}
	})
	return out
}

// Changes signals at least once after each change of Blocks.
func (m *Manager) Changes() <-chan struct{} { return m.changes }
