package networks

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

const (
	disputesEvery = 30 * time.Second       // the pool is read, while an address is disputed
	disputesFirst = 100 * time.Millisecond // and sooner when other addresses are
	disputesMost  = 8 * time.Second        // while that brings nothing new
)

// Disputes finds out who holds the addresses that two endpoints announce: whoever the
// pool records. Nothing is read while there are none.
type Disputes struct {
	Pool Holders
	Nets func(discovery.NetworkID) (discovery.Network, bool)
	// Own reports whether this host's own blocks have the address, which counts where
	// the pool was never asked.
	Own  func(n discovery.NetworkID, a netip.Addr) bool
	Self discovery.HostID
	// Tell is called with each answer; nothing is locked.
	Tell func(holder func(discovery.NetworkID, netip.Addr) (discovery.HostID, bool))
	Save func([]byte) error // what Saved returns after a restart
	Log  *slog.Logger

	wake pace.Signal

	mu       sync.Mutex
	disputed map[discovery.NetworkID][]discovery.EndpointID // that lose, as the view has it
	known    map[discovery.NetworkID]holdings               // replaced, never changed
}

// holdings are who holds what of a network.
type holdings struct {
	Blocks map[netip.Prefix]discovery.HostID `json:"blocks,omitempty"`
	Addrs  map[netip.Addr]discovery.HostID   `json:"addrs,omitempty"`
}

// Open takes what was known at the last start, when the addresses were disputed.
func (d *Disputes) Open(saved []byte) {
	d.wake = pace.NewSignal()
	if saved != nil {
		if err := json.Unmarshal(saved, &d.known); err != nil {
			d.Log.Warn("who holds disputed addresses cannot be read from the last start", "err", err)
		}
	}
	d.Tell(d.holder(d.known))
}

// Note takes the newest view.
func (d *Disputes) Note(v discovery.View) {
	now := map[discovery.NetworkID][]discovery.EndpointID{}
	for i := range v.Endpoints {
		if r := &v.Endpoints[i]; r.Conflicted {
			now[r.Network] = append(now[r.Network], r.ID)
		}
	}
	d.mu.Lock()
	changed := !maps.EqualFunc(d.disputed, now, slices.Equal[[]discovery.EndpointID])
	d.disputed = now
	d.mu.Unlock()
	if changed {
		d.wake.Set()
	}
}

// Run asks the pool while addresses are disputed, until ctx ends.
func (d *Disputes) Run(ctx context.Context) error {
	next := pace.Hinted{First: disputesFirst, Most: disputesMost}
	for {
		news, err := d.ask(ctx)
		wait := disputesEvery
		switch {
		case err != nil:
			d.Log.Debug("who holds disputed addresses is not known now", "err", err)
			wait = time.Second
		case len(d.networks()) == 0:
			wait = 24 * time.Hour // until a view has some
		}
		if !next.Sleep(ctx, wait, d.wake, news) {
			return nil
		}
	}
}

func (d *Disputes) networks() []discovery.NetworkID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.disputed))
}

// ask reads who holds what of the networks that have disputed addresses, and tells it.
// What cannot be read stays as it was known.
func (d *Disputes) ask(ctx context.Context) (news bool, err error) {
	next := map[discovery.NetworkID]holdings{}
	for _, id := range d.networks() {
		n, ok := d.Nets(id)
		if !ok {
			continue
		}
		h, failed := d.read(ctx, n)
		if failed != nil {
			err = failed
			var was bool
			if h, was = d.known[id]; !was {
				continue
			}
		}
		next[id] = h
	}
	if maps.EqualFunc(d.known, next, holdings.equal) {
		return false, err
	}
	d.known = next
	d.Tell(d.holder(next))
	b, failed := json.Marshal(next)
	if failed == nil {
		failed = d.Save(b)
	}
	if failed != nil {
		d.Log.Warn("who holds disputed addresses is not saved for the next start", "err", failed)
	}
	return true, err
}

func (d *Disputes) read(ctx context.Context, n discovery.Network) (holdings, error) {
	h := holdings{Blocks: map[netip.Prefix]discovery.HostID{}, Addrs: map[netip.Addr]discovery.HostID{}}
	blocks, err := d.Pool.Blocks(ctx, n)
	if err != nil {
		return h, err
	}
	for _, b := range blocks {
		h.Blocks[b.Prefix] = b.Host
	}
	for _, s := range n.Subnets {
		reserved, err := d.Pool.Reserved(ctx, n.ID, s.CIDR)
		if err != nil {
			return h, err
		}
		for a, r := range reserved {
			h.Addrs[a] = r.Host
		}
	}
	return h, nil
}

func (h holdings) equal(o holdings) bool {
	return maps.Equal(h.Blocks, o.Blocks) && maps.Equal(h.Addrs, o.Addrs)
}

// holder says who holds an address: who reserved it, else whose block covers it. One
// that is nobody's is known to be so.
func (d *Disputes) holder(known map[discovery.NetworkID]holdings) func(discovery.NetworkID, netip.Addr) (discovery.HostID, bool) {
	return func(id discovery.NetworkID, a netip.Addr) (host discovery.HostID, ok bool) {
		h, read := known[id]
		if !read {
			return d.Self, d.Own(id, a)
		}
		if host, ok := h.Addrs[a]; ok {
			return host, true
		}
		n, _ := d.Nets(id)
		s, ok := n.Covering(a)
		if !ok {
			return host, false
		}
		return h.Blocks[s.BlockOf(a)], true
	}
}
