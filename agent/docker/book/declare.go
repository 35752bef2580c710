package book

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/networks"
)

// Lay implements docker.Agent, from what this host knows: the store is asked only
// when the network is made.
func (d Driver) Lay(n docker.Network, taken []netip.Prefix) (docker.Subnet, error) {
	b, err := d.Usable()
	if err != nil {
		return docker.Subnet{}, err
	}
	sub, err := b.Maker.Lay(request(n), taken)
	if err != nil {
		return docker.Subnet{}, b.Explain("docker network create", err)
	}
	return docker.Subnet{CIDR: sub.CIDR, Gateway: sub.Gateway, Range: sub.Range, Aux: sub.Aux}, nil
}

// Declare implements docker.Agent.
func (d Driver) Declare(dockerID string, subnet netip.Prefix) error {
	b, err := d.Usable()
	if err != nil {
		return err
	}
	return b.declare(dockerID, subnet.String())
}

// Create implements docker.Agent.
func (d Driver) Create(ctx context.Context, dockerID string, n docker.Network) error {
	b, err := d.Usable()
	if err != nil {
		return err
	}
	made, err := b.Maker.Find(ctx, request(n))
	switch {
	case errors.Is(err, networks.ErrDiffers):
		return fmt.Errorf("%w: %w", docker.ErrDiffers, err)
	case err != nil:
		return b.Explain("docker network create "+n.Name, err)
	}
	return b.adopt(dockerID, made.ID)
}

// request is a Docker network as a user of agentctl would ask for it.
func request(n docker.Network) api.NetworkCreateRequest {
	r := api.NetworkCreateRequest{Name: n.Name, Internal: n.Internal, Labels: n.Labels, Options: n.Options, AuxAddresses: map[string]string{}}
	for _, s := range n.Subnets {
		if s.CIDR.IsValid() {
			r.Subnets = append(r.Subnets, s.CIDR.String())
		}
		if s.Gateway.IsValid() {
			r.Gateways = append(r.Gateways, s.Gateway.String())
		}
		if s.Range.IsValid() {
			r.IPRanges = append(r.IPRanges, s.Range.String())
		}
		for name, a := range s.Aux {
			r.AuxAddresses[name] = a.String()
		}
	}
	return r
}
