package book

import (
	"context"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/journal"
)

const (
	// young endpoints are not missed: Docker lists one a moment after it was made.
	young = 10 * time.Second
	// missingFor is how long an endpoint must be absent from Docker's list to be
	// forgotten. When all goes well Docker says so itself, just after.
	missingFor = time.Second
)

// compare finds what Docker tore down while no agent ran: Docker does not repeat a
// call that failed. An endpoint is forgotten when two lists in a row are without
// it.
func (b *Book) compare(ctx context.Context, at time.Time, endpoints map[string]bool) (unknown []string, missing bool) {
	ours := map[string]bool{}
	for _, l := range b.Journal.All() {
		if l.Docker == nil {
			continue
		}
		ours[l.Docker.EndpointID] = true
		switch {
		case endpoints[l.Docker.EndpointID]:
			b.found(l)
		case l.Created.After(at.Add(-young)):
			missing = true // it was just made
		case b.missingSince(l, at) < missingFor:
			missing = true
		default:
			b.forgetMissing(ctx, l)
		}
	}
	for id := range endpoints {
		if !ours[id] {
			unknown = append(unknown, id)
		}
	}
	slices.Sort(unknown)
	return unknown, missing
}

// forgetMissing removes an endpoint that Docker does not have.
func (b *Book) forgetMissing(ctx context.Context, l journal.Local) {
	l, unlock, ok, err := b.steps.LockEndpoint(ctx, l.Endpoint.ID)
	if !ok || err != nil {
		return
	}
	defer unlock()
	if err := b.forget(ctx, l); err != nil {
		b.Log.Warn("endpoint that Docker does not have not removed", "endpoint", l.Endpoint.ID, "err", err)
		return
	}
	if err := b.release(ctx, l.Endpoint.Network, l.Addrs[0].Addr()); err != nil {
		b.Log.Warn("address of an endpoint that Docker does not have not freed", "addr", l.Addrs[0], "err", err)
	}
	b.Log.Info("endpoint removed: Docker does not have it", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name, "addr", l.Addrs[0])
}

// found takes an endpoint off the list of missing ones.
func (b *Book) found(l journal.Local) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.missing, l.Endpoint.ID)
}

// missingSince is how long ago an endpoint was first missing.
func (b *Book) missingSince(l journal.Local, at time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.missing[l.Endpoint.ID].IsZero() {
		b.missing[l.Endpoint.ID] = at
	}
	return at.Sub(b.missing[l.Endpoint.ID])
}
