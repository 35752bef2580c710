package endpoint

import (
	"context"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Steps are the single steps in an endpoint's life, for a runtime that makes and
// removes an endpoint in several calls, as Docker does. Unless a step says
// otherwise, its caller holds the endpoint's lock.
type Steps struct {
	*parts
	stations *stations
}

// Steps returns the single steps of this Manager.
func (m *Manager) Steps() *Steps { return &Steps{m.parts, m.stations} }

// Lock makes requests for a sandbox wait for each other (journal.Local.LockKey).
func (s *Steps) Lock(ctx context.Context, key uint64) (unlock func(), err error) {
	return s.locks.lock(ctx, key)
}

// LockEndpoint takes the lock of an endpoint's sandbox and reads the endpoint under
// it; false, with nothing locked, when it is gone.
func (s *Steps) LockEndpoint(ctx context.Context, id discovery.EndpointID) (l journal.Local, unlock func(), ok bool, err error) {
	return s.lockLocal(ctx, id)
}

// Work marks an endpoint, whose journal entry or lease may be missing until done is
// called. It takes no lock.
func (s *Steps) Work(id discovery.EndpointID) (done func()) { return s.busy.mark(id) }

// Working reports whether a request works on an endpoint.
func (s *Steps) Working(id discovery.EndpointID) bool { return s.busy.has(id) }

// HoldMAC keeps a hardware address for an endpoint that is being made, until it
// is in the journal and release is called. The error names who has it.
func (s *Steps) HoldMAC(ctx context.Context, n discovery.Network, mac discovery.MAC) (release func(), err error) {
	return s.stations.hold(ctx, n, mac)
}

// Plug makes an endpoint's interface, writes the endpoint down and announces it.
// After an error the runtime removes the endpoint, and the interface goes with it.
func (s *Steps) Plug(ctx context.Context, n discovery.Network, l journal.Local) error {
	began := time.Now()
	err := s.plug(ctx, n, l)
	if err == nil {
		s.announce(l)
	}
	if err == nil {
		s.tell(askedBy(ctx, l.Endpoint.Runtime), event.EndpointAttached, l, "")
	}
	s.count.attached.note(l.Endpoint.Runtime, began, err)
	return err
}

// Update writes down what is said of an endpoint now, and announces it unless it
// has no interface. A runtime may say an endpoint's name after it was attached.
func (s *Steps) Update(ctx context.Context, l journal.Local, plugged bool) error {
	before, _ := s.Journal.Get(l.Endpoint.ID)
	if err := s.Journal.Put(l); err != nil {
		return err
	}
	if plugged {
		s.announce(l)
	}
	if plugged && l.Endpoint.Name != before.Endpoint.Name {
		s.tell(askedBy(ctx, l.Endpoint.Runtime), event.EndpointAttached, l, "its name is known")
	}
	return nil
}

func (s *Steps) announce(l journal.Local) {
	s.directory.Announce([]discovery.Endpoint{l.Announced()}, nil)
	s.Cluster.Poke()
}

// Withdraw withdraws an endpoint, which stays in the journal. With plugged its
// interface is removed in the background, and that begins at once: Docker moves out
// of the container only what it finds there, and moving takes the kernel as long as
// removing.
func (s *Steps) Withdraw(ctx context.Context, l journal.Local, plugged bool) {
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	s.Cluster.Poke()
	if plugged {
		s.tell(askedBy(ctx, l.Endpoint.Runtime), event.EndpointDetached, l, "")
		s.unplug(ctx, s.unplugs.begin(l.Endpoint, l.LockKey()))
	}
}

// Forget removes an endpoint from the journal and withdraws it. Its lease stays.
// Its interface is removed in the background, unless that has begun before.
func (s *Steps) Forget(ctx context.Context, l journal.Local) error {
	var leaving *unplug
	if !s.unplugs.removing(l.Endpoint.ID) {
		leaving = s.unplugs.begin(l.Endpoint, l.LockKey())
	}
	s.used.note(l.Endpoint.Network)
	s.forgetResolvers(l)
	if err := s.Journal.Remove(l.Endpoint.ID); err != nil {
		if leaving != nil {
			leaving.cancel()
		}
		return err
	}
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	s.Cluster.Poke()
	if l.Docker != nil && l.Docker.SandboxKey != "" {
		s.tell(askedBy(ctx, l.Endpoint.Runtime), event.EndpointDetached, l, "its runtime has it no more")
	}
	s.Ports.Release(l.Endpoint.ID, l.Ports) // Docker has revoked them, if it was there to do so
	if leaving != nil {
		s.unplug(ctx, leaving)
	}
	return nil
}
