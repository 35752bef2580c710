package endpoint

import (
	"context"
	"slices"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
)

// Connect gives the sandbox of an endpoint one more interface, under the name that
// it has already.
func (m *Manager) Connect(ctx context.Context, l journal.Local, r api.ConnectRequest) (api.Attachment, error) {
	// A path may be a younger sandbox's by now.
	if cookie, err := m.Kernel.Identify(ctx, l.Sandbox); err != nil || cookie != l.Cookie {
		return api.Attachment{}, api.Errorf(api.KindNotFound, "its sandbox %s is gone", l.Sandbox).WithHint("agentctl endpoint ls")
	}
	w, err := m.Check(ctx, api.AttachRequest{
		Network: r.Network, Netns: l.Sandbox, Name: l.Endpoint.Name, Aliases: r.Aliases, IP: r.IP, MAC: r.MAC,
		Runtime: l.Endpoint.Runtime, Container: l.Container, Labels: l.Labels,
	})
	if err != nil {
		return api.Attachment{}, err
	}
	return m.attachOnce(ctx, w)
}

// Disconnect takes the sandbox of an endpoint off a network.
func (m *Manager) Disconnect(ctx context.Context, n discovery.NetworkID, l journal.Local) error {
	on := slices.DeleteFunc(m.Journal.All(), func(o journal.Local) bool { return o.Cookie != l.Cookie || o.Endpoint.Network != n })
	if len(on) == 0 {
		return api.Errorf(api.KindNotFound, "%s is not on that network", l.Endpoint.Name).WithHint("agentctl endpoint inspect %s", l.Endpoint.Name)
	}
	for _, o := range on {
		if err := m.detachByID(ctx, o.Endpoint.ID, false, "it was disconnected"); err != nil {
			return err
		}
	}
	return nil
}
