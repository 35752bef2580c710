package endpoint

import (
	"context"

	"github.com/weft-net/weft/discovery"
)

// On implements networks.Users.
func (m *Manager) On(n discovery.NetworkID) bool {
	for _, l := range m.Journal.All() {
		if l.Endpoint.Network == n && !l.OfHost() {
			return true
		}
	}
	return false
}

// Networks implements networks.Users.
func (m *Manager) Networks() []discovery.NetworkID {
	seen := map[discovery.NetworkID]bool{}
	var out []discovery.NetworkID
	for _, l := range m.Journal.All() {
		if !seen[l.Endpoint.Network] {
			seen[l.Endpoint.Network] = true
			out = append(out, l.Endpoint.Network)
		}
	}
	return out
}

// EvictAll implements networks.Users.
func (m *Manager) EvictAll(ctx context.Context, n discovery.NetworkID) bool {
	empty := true
	for _, l := range m.Journal.All() {
		if l.Endpoint.Network != n {
			continue
		}
		if err := m.detachByID(ctx, l.Endpoint.ID, true, "its network is deleted"); err != nil {
			m.Log.Warn("endpoint of a deleted network not removed", "endpoint", l.Endpoint.ID, "err", err)
			empty = false
		}
	}
	return empty
}

// Abandon implements networks.Users.
func (m *Manager) Abandon(n discovery.NetworkID) { m.used.forget(n) }

// Names lists this host's endpoints as "name on network"; its own addresses are
// none.
func (m *Manager) Names() []string {
	var out []string
	for _, l := range m.Journal.All() {
		if !l.OfHost() {
			n, _ := m.Cluster.Network(l.Endpoint.Network)
			out = append(out, l.Endpoint.Name+" on "+n.Name)
		}
	}
	return out
}
