package agent

import (
	"context"
	"slices"
	"time"
)

const (
	// young endpoints are not missed: Docker lists one a moment after it was made.
	young = 10 * time.Second
	// missingFor is how long an endpoint must be absent from Docker's list to be
	// forgotten. When all goes well Docker says so itself, just after.
	missingFor = time.Second
)

// Compare implements docker.Agent: Docker repeats no call that failed, so what
// is torn down while no agent runs is found here. An endpoint is forgotten when
// two lists in a row are without it.
func (d dockerSide) Compare(ctx context.Context, at time.Time, endpoints map[string]bool) (unknown []string, missing bool) {
	s := d.settled()
	if s == nil {
		return nil, false
	}
	ours := map[string]bool{}
	for _, l := range s.journal.all() {
		if l.Docker == nil {
			continue
		}
		ours[l.Docker.EndpointID] = true
		switch {
		case endpoints[l.Docker.EndpointID]:
			s.docker.found(l)
		case l.Created.After(at.Add(-young)):
			missing = true // it was just made
		case s.docker.missingSince(l, at) < missingFor:
			missing = true
		default:
			s.forgetMissing(ctx, l)
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
func (s *session) forgetMissing(ctx context.Context, l Local) {
	l, unlock, ok := s.lockLocal(l.Endpoint.ID)
	if !ok {
		return
	}
	defer unlock()
	if err := s.forgetEndpoint(ctx, l); err != nil {
		s.log.Warn("endpoint that Docker does not have not removed", "endpoint", l.Endpoint.ID, "err", err)
		return
	}
	if err := s.release(ctx, l.Endpoint.Network, l.Addrs[0].Addr()); err != nil {
		s.log.Warn("address of an endpoint that Docker does not have not freed", "addr", l.Addrs[0], "err", err)
	}
	s.log.Info("endpoint removed: Docker does not have it", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name, "addr", l.Addrs[0])
}

// found takes an endpoint off the list of missing ones.
func (b *dockerBook) found(l Local) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.missing, l.Endpoint.ID)
}

// missingSince is how long ago an endpoint was first missing.
func (b *dockerBook) missingSince(l Local, at time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.missing[l.Endpoint.ID].IsZero() {
		b.missing[l.Endpoint.ID] = at
	}
	return at.Sub(b.missing[l.Endpoint.ID])
}
