package agent

import (
	"context"

	"github.com/weft-net/weft/agent/api"
)

// service answers the API as the agent.
type service struct{ *Agent }

var _ api.Service = service{}

// Version implements api.Service.
func (service) Version(context.Context) (api.Version, error) { return api.OwnVersion(), nil }

// Attach implements api.Service: lease, attach, announce; undone in reverse
// when a step fails. It returns when the name is answered on this host.
func (a service) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	m, err := a.requireMember()
	if err != nil {
		return api.Attachment{}, err
	}
	what := "attach " + r.Name
	w, err := m.endpoints.Check(ctx, r)
	if err != nil {
		return api.Attachment{}, m.explain(what, err)
	}
	out, err := m.endpoints.Attach(ctx, w)
	return out, m.explain(what+" to "+w.Network.Name, err)
}

// Detach implements api.Service. What is already gone is no error, so that a
// retried call succeeds.
func (a service) Detach(ctx context.Context, network, nameOrID string) error {
	m, err := a.requireMember()
	if err != nil {
		return err
	}
	n, ok := m.networks.Lookup(network)
	if !ok && m.networks.WasDeleted(network) {
		return nil // its endpoints went with it
	}
	if !ok {
		return api.NoNetwork(network)
	}
	return m.explain("detach "+nameOrID+" from "+n.Name, m.endpoints.Detach(ctx, n, nameOrID))
}

// DetachContainer implements api.Service. What is gone is no error, whichever
// of the container, the network and the membership it is: a runtime that gets
// one keeps the container and asks again.
func (a service) DetachContainer(ctx context.Context, c api.ContainerRef) error {
	if c.Container == "" {
		return api.Errorf(api.KindMisuse, "detach container: its id is missing")
	}
	m := a.settled()
	if m == nil {
		return nil
	}
	n, ok := m.networks.Lookup(c.Network)
	if !ok {
		return nil // its endpoints went with it
	}
	err := m.endpoints.DetachContainer(ctx, n.ID, c.Container, c.Ifname)
	return m.explain("detach container "+c.Container+" from "+n.Name, err)
}
