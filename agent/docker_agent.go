package agent

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/discovery"
)

// runtimeDocker marks the endpoints of Docker's containers.
const runtimeDocker = "docker"

// Docker is this host's side of a Docker engine.
type Docker interface {
	// Run serves the engine, when there is one, until ctx ends.
	Run(ctx context.Context) error
	// Clear takes the cluster's networks away from the engine.
	Clear(ctx context.Context) error
	// Connect and Disconnect ask the engine to, as docker.Service has them.
	Connect(ctx context.Context, r docker.Connection) (docker.Connected, error)
	Disconnect(ctx context.Context, network, container string, force bool) error
	// Found reports whether there is an engine, and it answers.
	Found() bool
	// Engine returns its version and that of its API, also of one that hangs; empty:
	// there is none.
	Engine() (version, api string)
	// Checks are its lines of status.
	Checks() []api.Check
}

// dockerSide answers Docker as the agent. Docker never repeats a tear-down, so
// those succeed when there is nothing to do, without a membership too.
type dockerSide struct{ *Agent }

var _ docker.Agent = dockerSide{}

// require returns the session for a call that makes something.
func (d dockerSide) require() (*session, error) {
	s, err := d.requireMember()
	switch {
	case err != nil:
		return nil, err
	case s.forgottenBy() != "":
		return nil, api.Errorf(api.KindConflict, "this host was taken out of the cluster: %s", s.forgottenBy()).
			WithHint("agentctl join ADDRESS --token-file FILE --replace")
	case s.isLeaving():
		return nil, api.Errorf(api.KindConflict, "this host is leaving the cluster").WithHint("agentctl join ADDRESS --token-file FILE # once it has left")
	}
	return s, nil
}

// Cluster implements docker.Agent.
func (d dockerSide) Cluster() (docker.Cluster, error) {
	s, err := d.require()
	if err != nil {
		return docker.Cluster{}, err
	}
	c := docker.Cluster{Objects: map[string]string{}}
	for dockerID, id := range s.docker.all() {
		c.Objects[dockerID] = id.String()
	}
	for _, n := range s.networkList() {
		c.Networks = append(c.Networks, dockerNetwork(n))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Read = s.read
	return c, nil
}

func dockerNetwork(n discovery.Network) docker.Network {
	out := docker.Network{ID: n.ID.String(), Name: n.Name, Internal: n.Internal, Labels: n.Labels, Options: n.Options,
		Deleting: n.State == discovery.NetworkDeleting}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, docker.Subnet{CIDR: s.CIDR, Gateway: s.Gateway, Range: s.Range, Aux: s.Aux})
	}
	return out
}

// Adopt implements docker.Agent.
func (d dockerSide) Adopt(dockerID, network string) error {
	s, err := d.require()
	if err != nil {
		return err
	}
	n, ok := s.network(network)
	if !ok {
		return noNetwork(network)
	}
	return s.docker.adopt(dockerID, n.ID)
}

// Drop implements docker.Agent.
func (d dockerSide) Drop(dockerID string) error {
	s := d.settled()
	if s == nil {
		return nil
	}
	return s.docker.drop(dockerID)
}

// Lease implements docker.Agent.
func (d dockerSide) Lease(ctx context.Context, network string, want netip.Addr) (netip.Prefix, error) {
	s, err := d.require()
	if err != nil {
		return netip.Prefix{}, err
	}
	n, ok := s.network(network)
	if !ok {
		return netip.Prefix{}, noNetwork(network)
	}
	l, err := s.lease(ctx, n, want)
	return l.Addr, s.explain("network "+n.Name, err)
}

// Release implements docker.Agent.
func (d dockerSide) Release(ctx context.Context, network string, a netip.Addr) error {
	s := d.settled()
	var id discovery.NetworkID
	if s == nil || id.UnmarshalText([]byte(network)) != nil {
		return nil
	}
	return s.release(ctx, id, a)
}

// dockerLock is the lock of an endpoint of Docker's.
func dockerLock(endpointID string) uint64 {
	b, err := hex.DecodeString(endpointID[:min(16, len(endpointID))])
	if err != nil || len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
