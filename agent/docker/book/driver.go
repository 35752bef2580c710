package book

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
)

// Driver answers Docker through the book of whichever membership this host has.
// Docker never repeats a tear-down, so those succeed when there is nothing to do,
// without a membership too.
type Driver struct {
	// Usable is the book for a call that makes something, or says why nothing may be
	// made.
	Usable func() (*Book, error)
	// Settled is the book for a call that tears something down; nil: this host is no
	// member. It waits while the membership is begun under another address.
	Settled func() *Book
}

// Agent is the driver in all its roles.
func (d Driver) Agent() docker.Agent { return docker.Agent{Networks: d, Endpoints: d, Observer: d} }

// Cluster implements docker.Agent.
func (d Driver) Cluster() (docker.Cluster, error) {
	b, err := d.Usable()
	if err != nil {
		return docker.Cluster{}, err
	}
	c := docker.Cluster{Objects: map[string]string{}}
	for dockerID, id := range b.Objects() {
		c.Objects[dockerID] = id.String()
	}
	b.mu.Lock()
	c.Declared = maps.Clone(b.declared)
	b.mu.Unlock()
	for _, n := range b.Networks.ByName() {
		c.Networks = append(c.Networks, network(n))
	}
	_, c.Read = b.Networks.ByVNI()
	return c, nil
}

// network is a network as Docker is told of it.
func network(n discovery.Network) docker.Network {
	out := docker.Network{ID: n.ID.String(), Name: n.Name, Internal: n.Internal, Labels: n.Labels, Options: n.Options,
		Deleting: n.State == discovery.NetworkDeleting}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, docker.Subnet{CIDR: s.CIDR, Gateway: s.Gateway, Range: s.Range, Aux: s.Aux})
	}
	return out
}

// Adopt implements docker.Agent.
func (d Driver) Adopt(dockerID, network string) error {
	b, n, err := d.on(network)
	if err != nil {
		return err
	}
	return b.adopt(dockerID, n.ID)
}

// on returns the book and a network that this host knows.
func (d Driver) on(network string) (*Book, discovery.Network, error) {
	b, err := d.Usable()
	if err != nil {
		return nil, discovery.Network{}, err
	}
	n, ok := b.Networks.Lookup(network)
	if !ok {
		return nil, discovery.Network{}, api.NoNetwork(network)
	}
	return b, n, nil
}

// Drop implements docker.Agent.
func (d Driver) Drop(dockerID string) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	return b.drop(dockerID)
}

// Lease implements docker.Agent.
func (d Driver) Lease(ctx context.Context, network string, want netip.Addr) (netip.Prefix, error) {
	b, n, err := d.on(network)
	if err != nil {
		return netip.Prefix{}, err
	}
	l, err := b.lease(ctx, n, want)
	return l.Addr, b.Explain("network "+n.Name, err)
}

// Release implements docker.Agent.
func (d Driver) Release(ctx context.Context, network string, a netip.Addr) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	id, ok := b.ofPool(network)
	if !ok {
		return nil
	}
	return b.release(ctx, id, a)
}

// Bind implements docker.Agent: the endpoint is in the journal, without an
// interface, and not announced.
func (d Driver) Bind(ctx context.Context, e docker.Endpoint) (mac string, err error) {
	b, n, err := d.on(e.Network)
	if err != nil {
		return "", err
	}
	l, err := b.bind(ctx, n, e)
	if err != nil {
		return "", b.Explain("endpoint "+e.Addr.String()+" in "+n.Name, err)
	}
	return l.Endpoint.MAC.String(), nil
}

// Join implements docker.Agent: when it returns, what Docker fetches reaches
// this host's endpoints and is announced to the others.
func (d Driver) Join(ctx context.Context, endpoint, sandboxKey string) (docker.Interface, error) {
	b, err := d.Usable()
	if err != nil {
		return docker.Interface{}, err
	}
	return b.join(ctx, endpoint, sandboxKey)
}

// Leave implements docker.Agent: the others forget the endpoint.
func (d Driver) Leave(ctx context.Context, endpoint string) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	return b.leave(ctx, endpoint)
}

// Remove implements docker.Agent. The address stays leased: Docker releases it
// next.
func (d Driver) Remove(ctx context.Context, endpoint string) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	return b.remove(ctx, endpoint)
}

// Publish implements docker.Agent.
func (d Driver) Publish(ctx context.Context, endpoint string, ports []string) error {
	b, err := d.Usable()
	if err != nil {
		return err
	}
	want, err := hostport.Parse(ports)
	if err != nil {
		return err
	}
	l, ok := b.Journal.OfDocker(endpoint)
	if !ok {
		return api.Errorf(api.KindNotFound, "publish: no endpoint %s", endpoint)
	}
	return b.Endpoints.Publish(ctx, l.Endpoint.ID, want)
}

// Unpublish implements docker.Agent.
func (d Driver) Unpublish(ctx context.Context, endpoint string) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	l, ok := b.Journal.OfDocker(endpoint)
	if !ok {
		return nil
	}
	return b.Endpoints.Unpublish(ctx, l.Endpoint.ID)
}

// Describe implements docker.Agent.
func (d Driver) Describe(ctx context.Context, endpoint string, c docker.Container) error {
	b := d.Settled()
	if b == nil {
		return nil
	}
	return b.describe(ctx, endpoint, c)
}

// Compare implements docker.Agent.
func (d Driver) Compare(ctx context.Context, at time.Time, endpoints map[string]bool) (unknown []string, missing bool) {
	b := d.Settled()
	if b == nil {
		return nil, false
	}
	return b.compare(ctx, at, endpoints)
}

// Keep implements docker.Agent.
func (d Driver) Keep(ctx context.Context, given []docker.Given) {
	if b := d.Settled(); b != nil {
		b.keep(ctx, given)
	}
}
