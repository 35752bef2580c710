package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/pace"
)

// Resume takes up the endpoints that only the kernel knows. It drops journaled endpoints whose sandbox went away while no agent ran, and
// returns them; then it takes the ports of the others, before another program does.
// It is called before gossip opens: what is announced first is what runs.
func (m *Manager) Resume(ctx context.Context) (pruned []discovery.EndpointID, err error) {
	if err := (strays{m.parts}).takeUp(ctx); err != nil {
		m.Log.Warn("what the kernel has and the journal has not is not all written down", "err", err)
	}
	plugged, err := m.Kernel.Attached(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range m.Journal.All() {
		// An interface lives exactly as long as its namespace, whatever became
		// of the path: a process may hold one that has no name any more.
		if l.OfHost() || l.Docker != nil || slices.Contains(plugged, l.Endpoint.ID.String()) {
			continue
		}
		gone, err := m.vanished(ctx, l)
		if err == nil && !gone {
			continue
		}
		if err != nil {
			m.Log.Warn("cannot tell whether the sandbox is there, keeping the endpoint", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox, "err", err)
			continue
		}
		m.Log.Info("sandbox went away while no agent ran", "endpoint", l.Endpoint.ID, "sandbox", l.Sandbox)
		if err := m.Journal.Remove(l.Endpoint.ID); err != nil {
			m.Log.Warn("endpoint of a vanished sandbox not removed", "endpoint", l.Endpoint.ID, "err", err)
			continue // the sweep tries again
		}
		m.tell(ctx, event.EndpointDetached, l, "its sandbox went away while no agent ran")
		pruned = append(pruned, l.Endpoint.ID)
		m.restoreResolv(l)
	}
	m.ports.reclaim()
	return pruned, nil
}

// FreeOrphans frees leases whose endpoint is not in the journal: it ended while no
// agent ran, the agent died between the lease and the journal, or a disk that filled up
// in between took neither the journal nor that the lease ended. It leaves alone
// those for which keep returns true: a runtime may just have asked for such a
// lease.
func (m *Manager) FreeOrphans(ctx context.Context, keep func(n discovery.NetworkID, owner discovery.EndpointID) bool) {
	for _, o := range m.leases.Leases() {
		// In this order: attach writes the journal before its work ends.
		if m.busy.has(o.Owner) {
			continue
		}
		if _, there := m.Journal.Get(o.Owner); there || keep(o.Network, o.Owner) {
			continue
		}
		if err := m.leases.Free(ctx, o.Network, o.Owner); err != nil {
			m.Log.Warn("lease without endpoint not freed", "endpoint", o.Owner, "err", err)
		}
	}
}

// Run sweeps every second until ctx ends. It removes endpoints whose sandbox is
// gone. It makes an interface again that was lost in a sandbox that lives. It
// removes interfaces without an endpoint, which an agent that died, or Docker, left
// behind. Docker's endpoints end when Docker says so.
func (m *Manager) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		there, err := m.Kernel.Attached(ctx)
		if err != nil {
			m.Log.Warn("cannot list the endpoints' interfaces", "err", err)
			continue
		}
		plugged := make(map[string]bool, len(there))
		for _, id := range there {
			plugged[id] = true
		}
		strays{m.parts}.bury(ctx, there)
		for _, l := range m.Journal.All() {
			if !l.OfHost() && l.Docker == nil && !plugged[l.Endpoint.ID.String()] {
				m.mend(ctx, l.Endpoint.ID)
			}
		}
	}
}

// mend looks again, under the sandbox's lock, at an endpoint without an
// interface: a request may just be working on it.
func (m *Manager) mend(ctx context.Context, id discovery.EndpointID) {
	l, unlock, ok, err := m.lockLocal(ctx, id)
	if !ok || err != nil {
		return
	}
	defer unlock()
	n, known := m.Cluster.Network(l.Endpoint.Network)
	gone, err := m.vanished(ctx, l)
	if gone {
		if err := m.detach(ctx, l, true, "its sandbox is gone"); err != nil {
			level := slog.LevelWarn
			if _, full := errors.AsType[*boltfile.WriteError](err); full {
				level = slog.LevelDebug // it is tried each second, and status names the disk
			}
			m.Log.Log(ctx, level, "endpoint of a vanished sandbox not removed", "endpoint", id, "err", err)
		}
		return
	}
	if err != nil || !known {
		return
	}
	if err := m.holding(ctx, n, func() error { return m.Kernel.Attach(ctx, m.link(n, l)) }); err != nil {
		m.Log.Warn("endpoint lost its interface and cannot get it back", "endpoint", id, "err", err)
		return
	}
	m.restoreResolv(l) // agentd cleanup takes it away with the interface
	m.Log.Info("endpoint repaired", "endpoint", id, "name", l.Endpoint.Name, "network", n.Name)
	m.Cluster.Poke()
}

// vanished reports whether an endpoint's sandbox is gone: its path leads nowhere or
// to another namespace, or the machine was started again since.
func (p *parts) vanished(ctx context.Context, l journal.Local) (bool, error) {
	if l.Boot != "" && l.Boot != p.Host.Boot() || l.Sandbox == "" {
		return true, nil // without a sandbox it was taken up from the kernel, and ends with its interface
	}
	cookie, err := p.Kernel.Identify(ctx, l.Sandbox)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return err == nil && cookie != l.Cookie, err
}

// clearStale removes endpoints of this host that are in the way of a request and
// whose sandbox is gone: a namespace may be made again, and attached, before the
// sweep has noticed that the first one went.
func (m *Manager) clearStale(ctx context.Context, w Wanted) {
	for _, l := range m.Journal.All() {
		again := l.Sandbox == w.sandbox && l.Cookie != w.cookie
		holds := w.addr.IsValid() && l.Endpoint.Network == w.Network.ID && slices.Contains(l.Endpoint.Addrs(), w.addr)
		if l.Sandbox == "" || !again && !holds {
			continue
		}
		if gone, err := m.vanished(ctx, l); err == nil && gone && m.unplugged(ctx, l.Endpoint.ID) {
			m.mend(ctx, l.Endpoint.ID)
		}
	}
}

// teardown is how long the kernel may take to remove the interfaces of a
// namespace that was deleted. One that a process holds keeps them for longer: it
// lives, without a name.
const teardown = time.Second

// unplugged waits until an endpoint has no interface any more.
func (m *Manager) unplugged(ctx context.Context, id discovery.EndpointID) bool {
	ctx, cancel := context.WithTimeout(ctx, teardown)
	defer cancel()
	for {
		there, err := m.Kernel.Attached(ctx)
		if err == nil && !slices.Contains(there, id.String()) {
			return true
		}
		if !pace.Sleep(ctx, 10*time.Millisecond) {
			return false
		}
	}
}
