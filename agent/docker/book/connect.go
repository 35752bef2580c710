package book

import (
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/endpoint"
)

// Engine connects containers: it makes their interfaces, and calls this host's
// driver for each.
type Engine interface {
	Connect(ctx context.Context, r docker.Connection) (docker.Connected, error)
	Disconnect(ctx context.Context, network, container string, force bool) error
}

// Connect asks the engine to put a container on a network. One that does not run has
// no interface yet: the attachment then has its network only.
func (b *Book) Connect(ctx context.Context, e Engine, r api.ConnectRequest) (api.Attachment, error) {
	n, ok := b.Networks.Lookup(r.Network)
	if !ok {
		return api.Attachment{}, api.NoNetwork(r.Network)
	}
	// Docker would accept anything here and fail later, with words of its own.
	ip, mac, err := endpoint.CheckAddresses(n, r.IP, r.MAC)
	if err != nil {
		return api.Attachment{}, err
	}
	if _, err := endpoint.ParseAliases(r.Aliases); err != nil {
		return api.Attachment{}, err
	}
	to := docker.Connection{Network: n.ID.String(), Container: r.Container, Aliases: r.Aliases, IP: ip}
	if !mac.IsZero() {
		to.MAC = mac[:]
	}
	got, err := e.Connect(ctx, to)
	if err != nil {
		return api.Attachment{}, err
	}
	if l, ok := b.Journal.OfDocker(got.Endpoint); ok {
		out := b.Endpoints.Answer(n, l)
		out.Name = got.Name
		return out, nil
	}
	return api.Attachment{Name: got.Name, Network: n.Name, Notices: []string{"the container does not run: it gets its address when it starts"}}, nil
}

// Disconnect asks the engine to take a container off a network.
func (b *Book) Disconnect(ctx context.Context, e Engine, r api.DisconnectRequest) error {
	n, ok := b.Networks.Lookup(r.Network)
	if !ok {
		return api.NoNetwork(r.Network)
	}
	return e.Disconnect(ctx, n.ID.String(), r.Container, r.Force)
}
