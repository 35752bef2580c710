package agent

import (
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
)

// dockerConnector connects Docker's containers: the engine makes their
// interfaces, and comes back to us for each.
type dockerConnector struct {
	session *session
	engine  Docker
}

// Connect implements connector. A container that does not run has no interface
// yet: the attachment then has its network only.
func (c dockerConnector) Connect(ctx context.Context, r api.ConnectRequest) (api.Attachment, error) {
	n, ok := c.session.network(r.Network)
	if !ok {
		return api.Attachment{}, noNetwork(r.Network)
	}
	// Docker takes anything, and would say otherwise than we what is wrong with it.
	w := wantedEndpoint{network: n}
	if err := w.checkAddresses(api.AttachRequest{IP: r.IP, MAC: r.MAC}); err != nil {
		return api.Attachment{}, err
	}
	if _, err := parseAliases(r.Aliases); err != nil {
		return api.Attachment{}, err
	}
	to := docker.Connection{Network: n.ID.String(), Container: r.Container, Aliases: r.Aliases, IP: w.addr}
	if !w.mac.IsZero() {
		to.MAC = w.mac[:]
	}
	got, err := c.engine.Connect(ctx, to)
	if err != nil {
		return api.Attachment{}, err
	}
	if l, ok := c.session.journal.ofDocker(got.Endpoint); ok {
		out := c.session.attachment(n, l)
		out.Name = got.Name
		return out, nil
	}
	return api.Attachment{Name: got.Name, Network: n.Name, Notices: []string{"the container does not run: it gets its address when it starts"}}, nil
}

// Found implements connector. An engine that hangs is asked all the same, and says
// so: it may have the container.
func (c dockerConnector) Found() bool {
	version, _ := c.engine.Engine()
	return version != ""
}

// Disconnect implements connector.
func (c dockerConnector) Disconnect(ctx context.Context, r api.DisconnectRequest) error {
	n, ok := c.session.network(r.Network)
	if !ok {
		return noNetwork(r.Network)
	}
	return c.engine.Disconnect(ctx, n.ID.String(), r.Container, r.Force)
}
