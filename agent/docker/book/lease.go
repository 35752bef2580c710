package book

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
)

// claimWithin is how long a lease may be without an endpoint: Docker asks for
// the address some milliseconds before it names the endpoint, and says nothing
// when it changes its mind.
const claimWithin = time.Minute

// lease takes an address for an endpoint that Docker names later. It is
// persisted as a lease whose owner is not in the journal.
func (b *Book) lease(ctx context.Context, n discovery.Network, want netip.Addr) (ipam.Lease, error) {
	if o, ok := b.unclaimedLease(n.ID, want); ok {
		// Docker asks again when the answer was lost, as with an agent that ended
		// in between. Of two who want the address one gets it in takeUp.
		return o.Lease, nil
	}
	var owner discovery.EndpointID
	_, _ = rand.Read(owner[:])
	l, err := b.Leases.Lease(ctx, n, owner, want)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unclaimed[owner] = time.Now()
	}
	return l, err
}

// unclaimedLease finds the lease of an address that no endpoint has.
func (b *Book) unclaimedLease(n discovery.NetworkID, a netip.Addr) (ipam.Owned, bool) {
	for _, o := range b.Leases.Leases() {
		if o.Network != n || o.Addr.Addr() != a {
			continue
		}
		_, claimed := b.Journal.Get(o.Owner)
		return o, !claimed && !b.steps.Working(o.Owner)
	}
	return ipam.Owned{}, false
}

// release ends an address's lease. What a living endpoint has is kept: Docker
// says so of endpoints that it has lost and found again. So is what a container has by
// --ip: it wants that address when it is started again.
func (b *Book) release(ctx context.Context, n discovery.NetworkID, a netip.Addr) error {
	if b.isGiven(n, a) {
		return nil
	}
	b.claiming.Lock()
	o, ok := b.unclaimedLease(n, a)
	if !ok {
		b.claiming.Unlock()
		return nil
	}
	defer b.steps.Work(o.Owner)() // no endpoint claims it any more
	b.claiming.Unlock()
	err := b.Leases.Free(ctx, n, o.Owner)
	if err == nil {
		b.claimed(o.Owner)
	}
	return err
}

// claimed takes a lease off the list of those that nobody has taken up.
func (b *Book) claimed(owner discovery.EndpointID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unclaimed, owner)
}

// FreeUnclaimed frees leases that no endpoint has taken up in time.
func (b *Book) FreeUnclaimed(ctx context.Context, now time.Time) {
	all := b.Leases.Leases()
	b.keepUnclaimed(all)
	for _, o := range all {
		_, claimed := b.Journal.Get(o.Owner)
		switch since := b.unclaimedSince(o.Owner, now); {
		case claimed || b.steps.Working(o.Owner):
			b.claimed(o.Owner)
		case b.isGiven(o.Network, o.Addr.Addr()) || b.unheard(o.Network):
		case now.Sub(since) > claimWithin:
			if err := b.release(ctx, o.Network, o.Addr.Addr()); err != nil {
				b.Log.Warn("lease without endpoint not freed", "addr", o.Addr, "err", err)
				continue
			}
			b.Log.Info("address freed that no endpoint took up", "addr", o.Addr)
		}
	}
}

// keepUnclaimed forgets what was freed otherwise.
func (b *Book) keepUnclaimed(leases []ipam.Owned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for owner := range b.unclaimed {
		if !slices.ContainsFunc(leases, func(o ipam.Owned) bool { return o.Owner == owner }) {
			delete(b.unclaimed, owner)
		}
	}
}

// unclaimedSince returns when a lease was first seen without an endpoint.
func (b *Book) unclaimedSince(owner discovery.EndpointID, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unclaimed[owner].IsZero() {
		b.unclaimed[owner] = now
	}
	return b.unclaimed[owner]
}
