// Package networks keeps the networks that this host knows: those that the pool
// listed last, and those that this host made a moment ago. It removes a network
// that the pool says was deleted, and writes back what a store lost. It leases no
// address.
package networks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
)

// Store is the networks of the pool.
type Store interface {
	Networks(ctx context.Context) ([]discovery.Network, error)
	Watch(ctx context.Context, deliver func(pool.Contents) []strict.Clash) error
	CreateNetwork(ctx context.Context, spec pool.NetworkSpec) (discovery.Network, error)
	DeleteNetwork(ctx context.Context, name, by string, force bool) (discovery.Network, error)
	FinishDelete(ctx context.Context, n discovery.Network, by string) (bool, error)
	// AwaitFree waits until FinishDelete can do the last step.
	AwaitFree(ctx context.Context, n discovery.Network) error
	Healthy() error
}

// WriteBack puts back into the pool what it lost.
type WriteBack interface {
	Reassert(ctx context.Context, m pool.Meta, h pool.Host, networks []discovery.Network, blocks []discovery.Block) error
	ReassertAddrs(ctx context.Context, h pool.Host, networks []discovery.Network, addrs []discovery.ReservedAddr) error
}

// Config is what a registry is made of.
type Config struct {
	Store Store
	// Saved is what Save was given last, in an earlier start; nil: nothing.
	Saved []byte
	Save  func([]byte) error
	// Underlay is what no network may overlap that this host does not know yet; nil:
	// nothing.
	Underlay func() []netip.Prefix
	Changed  func() // called, with nothing locked, when the networks are others
	Log      *slog.Logger
}

// Registry is the networks that this host knows. An absent network is kept: only
// its tombstone in the pool removes one.
type Registry struct {
	cfg Config

	mu       sync.Mutex
	all      []discovery.Network               // sorted by VNI; replaced, never changed
	listed   map[discovery.NetworkID]bool      // of them, those that the watch has shown
	absent   map[discovery.NetworkID]time.Time // shown before, and since then neither listed nor deleted
	deleted  map[discovery.NetworkID]pool.GoneBy
	read     bool           // delivered since this agent started
	restored int            // the watch's count of fallen indexes
	lost     bool           // the store lacks what this host knows: to be written back
	refused  string         // why the store did not take it back last time; empty: it did
	clashes  []strict.Clash // networks of the store that are not taken
	changed  chan struct{}  // closed by the next delivery
}

// New takes the networks of the last start, so that the kernel is programmed and
// names are answered before the pool was asked.
func New(cfg Config) *Registry {
	r := &Registry{cfg: cfg, listed: map[discovery.NetworkID]bool{}, changed: make(chan struct{})}
	if cfg.Saved == nil {
		return r
	}
	var saved []discovery.Network
	if err := json.Unmarshal(cfg.Saved, &saved); err != nil {
		cfg.Log.Warn("the networks of the last start cannot be read", "err", err)
		r.all = nil
	}
	saved = slices.DeleteFunc(saved, func(n discovery.Network) bool { return strict.Network(n) != nil })
	r.all, _ = strict.Networks(nil, saved, nil)
	for _, n := range r.all {
		r.listed[n.ID] = true
	}
	return r
}

// underlay is what no network may overlap that is new here.
func (r *Registry) underlay() []netip.Prefix {
	if r.cfg.Underlay == nil {
		return nil
	}
	return r.cfg.Underlay()
}

// Run follows the pool until ctx ends. For each answer it first calls gone with the
// hosts that were taken out, and then takes the networks.
func (r *Registry) Run(ctx context.Context, gone func(map[discovery.HostID]pool.GoneBy)) error {
	return r.cfg.Store.Watch(ctx, func(c pool.Contents) []strict.Clash {
		gone(c.Gone)
		return r.deliver(c)
	})
}

// deliver takes the pool's newest contents, and returns what it does not take.
func (r *Registry) deliver(c pool.Contents) []strict.Clash {
	next, clashes := r.take(c, r.underlay())
	if b, err := json.Marshal(next); err == nil {
		if err := r.cfg.Save(b); err != nil {
			r.cfg.Log.Warn("networks not saved for the next start", "err", err)
		}
	}
	r.cfg.Changed()
	return clashes
}

func (r *Registry) take(c pool.Contents, underlay []netip.Prefix) (next []discovery.Network, clashes []strict.Clash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, others := r.divide(c.Networks)
	listed, absent := map[discovery.NetworkID]bool{}, map[discovery.NetworkID]time.Time{}
	for _, n := range c.Networks {
		listed[n.ID] = true
	}
	for _, n := range r.all {
		if _, deleted := c.NetGone[n.ID]; deleted && !listed[n.ID] || has(known, n.ID) {
			continue
		}
		known = append(known, n)
		// One that was never listed was made here a moment ago.
		if !listed[n.ID] && (r.listed[n.ID] || !r.absent[n.ID].IsZero()) {
			absent[n.ID] = cmp.Or(r.absent[n.ID], time.Now())
		}
	}
	next, clashes = strict.Networks(known, others, underlay)
	r.clashes = clashes
	r.all, r.listed, r.absent, r.deleted, r.read = next, listed, absent, c.NetGone, true
	r.lost = r.lost || c.Restored > r.restored
	r.restored = c.Restored
	close(r.changed)
	r.changed = make(chan struct{})
	if !r.lost && len(absent) == 0 {
		r.refused = ""
	}
	return next, clashes
}

// divide tells the networks that this host knows, as they are now, from others.
// What shares no more than the id with one that it knows is another: the VNI and the
// addresses of a network never change. mu is held.
func (r *Registry) divide(now []discovery.Network) (known, others []discovery.Network) {
	for _, n := range now {
		i := slices.IndexFunc(r.all, func(o discovery.Network) bool { return o.ID == n.ID })
		if i >= 0 && r.all[i].Name == n.Name && r.all[i].VNI == n.VNI && r.all[i].CIDRs() == n.CIDRs() && !has(known, n.ID) {
			known = append(known, n)
		} else {
			others = append(others, n)
		}
	}
	return known, others
}

func has(all []discovery.Network, id discovery.NetworkID) bool {
	return slices.ContainsFunc(all, func(n discovery.Network) bool { return n.ID == id })
}

// awaitGone waits until the pool says that a network was deleted, for as long as limit
// or until ctx ends.
func (r *Registry) awaitGone(ctx context.Context, id discovery.NetworkID, limit time.Duration) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		r.mu.Lock()
		changed, there := r.changed, has(r.all, id)
		r.mu.Unlock()
		if !there {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// ByVNI returns the networks sorted by VNI, and whether the pool was read since
// this agent started: then they are all that exist. The slice is not to be changed.
func (r *Registry) ByVNI() (all []discovery.Network, read bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all, r.read
}

// ByName returns the networks sorted by name.
func (r *Registry) ByName() []discovery.Network {
	all, _ := r.ByVNI()
	return slices.SortedFunc(slices.Values(all), func(a, b discovery.Network) int { return cmp.Compare(a.Name, b.Name) })
}

// NameOf is the name of a network, its id when this host does not know it.
func (r *Registry) NameOf(id discovery.NetworkID) string {
	n, _ := r.Get(id)
	return cmp.Or(n.Name, id.String())
}

// Get returns the network of an id.
func (r *Registry) Get(id discovery.NetworkID) (discovery.Network, bool) {
	all, _ := r.ByVNI()
	i := slices.IndexFunc(all, func(n discovery.Network) bool { return n.ID == id })
	if i < 0 {
		return discovery.Network{}, false
	}
	return all[i], true
}

// Lookup finds a network by name, id or the start of an id (discovery.Find).
func (r *Registry) Lookup(nameOrID string) (discovery.Network, bool) {
	all, _ := r.ByVNI()
	n, err := discovery.Find(all, nameOrID, func(n discovery.Network) discovery.Keys {
		return discovery.Keys{Name: n.Name, IDs: []string{n.ID.String()}}
	})
	return n, err == nil
}

// Find is Lookup for a request: before a name is called unknown the store is
// asked, once, since another host may have made the network a moment ago.
func (r *Registry) Find(ctx context.Context, nameOrID string) (discovery.Network, error) {
	if n, ok := r.Lookup(nameOrID); ok {
		return n, nil
	}
	if r.cfg.Store.Healthy() == nil {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if r.Refresh(ctx) == nil {
			if n, ok := r.Lookup(nameOrID); ok {
				return n, nil
			}
		}
	}
	return discovery.Network{}, api.NoNetwork(nameOrID)
}

// Refresh takes the networks that the pool has now, without waiting for the watch.
func (r *Registry) Refresh(ctx context.Context) error {
	all, err := r.cfg.Store.Networks(ctx)
	for _, n := range all {
		r.add(n)
	}
	return err
}

// add takes a network without waiting for the watch, which may be in its pause
// after the store was away. The watch says why one is not taken.
func (r *Registry) add(n discovery.Network) {
	underlay := r.underlay()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, _ = strict.Networks(r.all, []discovery.Network{n}, underlay)
}

// WasDeleted reports whether a network of that name or id was deleted.
func (r *Registry) WasDeleted(nameOrID string) bool {
	nameOrID = strings.ToLower(nameOrID)
	for id, by := range r.tombstones() {
		if by.Name == nameOrID || id.String() == nameOrID {
			return true
		}
	}
	return false
}

// tombstones are the networks that the pool says were deleted.
func (r *Registry) tombstones() map[discovery.NetworkID]pool.GoneBy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deleted
}

// NoteLost says that the store lacks what this host knows.
func (r *Registry) NoteLost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = true
}

// absentFor is how long a network must be absent from the pool for the store to be
// taken for wiped: the folders of the pool are read one after the other, so that
// the tombstone of a network may come a moment after its key has gone.
const absentFor = 5 * time.Second

// Lost reports whether the store was wiped, or restored from an old copy.
func (r *Registry) Lost() bool {
	r.mu.Lock()
	lost := r.lost
	for _, since := range r.absent {
		lost = lost || time.Since(since) > absentFor
	}
	r.mu.Unlock()
	return lost || errors.Is(r.cfg.Store.Healthy(), pool.ErrNoCluster)
}

// Holdings are what this host holds of the pool, in the form in which the pool
// records it.
type Holdings struct {
	Blocks []discovery.Block
	Addrs  []discovery.ReservedAddr
}

// Reassert writes back what a wiped or restored store lost: the cluster's record,
// networks that nobody deleted, and what this host holds.
func (r *Registry) Reassert(ctx context.Context, w WriteBack, m pool.Meta, h pool.Host, own Holdings) {
	all := r.ByName()
	err := errors.Join(w.Reassert(ctx, m, h, all, own.Blocks), w.ReassertAddrs(ctx, h, all, own.Addrs))
	why := ""
	if err != nil {
		why = err.Error()
	}
	r.mu.Lock()
	said := r.refused == why
	r.refused = why
	if err == nil {
		r.lost, r.absent = false, nil
	}
	r.mu.Unlock()
	switch {
	case err == nil:
		r.cfg.Log.Warn("the store had lost what this host knows, by a wipe, an old copy or a deleted key: it was written back")
	case !said:
		r.cfg.Log.Warn("the store has lost what this host knows, and does not take everything back", "err", err)
	}
}

// Missing says in words what this host knows and the store does not have; empty:
// nothing.
func (r *Registry) Missing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, n := range r.all {
		if since, ok := r.absent[n.ID]; ok && time.Since(since) > absentFor {
			names = append(names, n.Name)
		}
	}
	switch {
	case r.refused != "":
		return "it does not take back what this host knows: " + r.refused
	case len(names) > 0:
		return "it has lost the keys of " + strings.Join(names, ", ") + ", which are written back"
	}
	return ""
}
