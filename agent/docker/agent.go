package docker

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Agent is what serves the driver and hears of the engine. Every method answers from
// local state, but for an address outside the host's own blocks. Errors with a hint
// are *api.Error. While the host is no member of a cluster, what makes something
// fails and what removes something succeeds, since Docker never asks again.
type Agent struct {
	Networks
	Endpoints
	Observer
}

// Networks are the cluster's, and their Docker networks here.
type Networks interface {
	// Cluster is what this host knows of the cluster's networks.
	Cluster() (Cluster, error)
	// Adopt remembers that a Docker network stands for a network of the cluster.
	Adopt(dockerID, network string) error
	// Drop forgets a Docker network.
	Drop(dockerID string) error

	// Lay returns the IPv4 subnet that a new network would have, or says what is
	// wrong with it. Without a subnet of its own it gets one that is free beside taken.
	Lay(n Network, taken []netip.Prefix) (Subnet, error)
	// Declare remembers that Docker has a network that is to be the cluster's.
	Declare(dockerID string, subnet netip.Prefix) error
	// Create makes the network of the cluster that a declared Docker network stands
	// for, or finds it made already, and adopts. ErrDiffers: the cluster has another one
	// of that name.
	Create(ctx context.Context, dockerID string, n Network) error
}

// ErrDiffers: the cluster has another network of the name.
var ErrDiffers = errors.New("the cluster has another network of that name")

// Endpoints are what the engine asks the driver to make and to remove.
type Endpoints interface {
	// Lease takes an address of a network, want or any when want is zero, for an
	// endpoint that Docker names later. One that Bind does not take up is freed
	// after a while.
	Lease(ctx context.Context, network string, want netip.Addr) (netip.Prefix, error)
	// Release gives an address back unless a living endpoint has it.
	Release(ctx context.Context, network string, a netip.Addr) error

	// Bind makes an endpoint of a leased address.
	Bind(ctx context.Context, e Endpoint) (mac string, err error)
	// Join makes the endpoint's interface in the host namespace, for Docker to
	// fetch.
	Join(ctx context.Context, endpoint, sandboxKey string) (Interface, error)
	// Leave withdraws an endpoint, Remove forgets it; an unknown one is no error.
	Leave(ctx context.Context, endpoint string) error
	Remove(ctx context.Context, endpoint string) error

	// Publish opens ports of this host for an endpoint, in the notation of docker
	// run -p. Unpublish closes them; an unknown endpoint has none.
	Publish(ctx context.Context, endpoint string, ports []string) error
	Unpublish(ctx context.Context, endpoint string) error
}

// Observer hears what the engine says of its containers.
type Observer interface {
	// Describe says whose an endpoint is; an unknown one is no error.
	Describe(ctx context.Context, endpoint string, c Container) error
	// Compare hands over the ids of all endpoints that the engine had at a time.
	// It returns those that the agent does not know, and whether the agent has
	// some that the engine did not list.
	Compare(ctx context.Context, at time.Time, endpoints map[string]bool) (unknown []string, missing bool)
	// Keep says which addresses containers have been given by their user, those of
	// containers that do not run too: nobody else gets one of them. It replaces what
	// was said before.
	Keep(ctx context.Context, given []Given)
}

// Given is an address that a container has by --ip, as long as it exists.
type Given struct {
	Network string // Network.ID
	Addr    netip.Addr
}

// Cluster is the networks of the cluster and their Docker networks here.
type Cluster struct {
	Networks []Network         // sorted by name
	Objects  map[string]string // Docker's network id to Network.ID, whether that is in Networks or not
	// Declared are the Docker networks that the cluster got, or is about to get, from
	// this engine: Docker's network id to the subnet, which is their pool's id. One that
	// is not in Objects is not made yet.
	Declared map[string]string
	Read     bool // Networks are all that exist: one that is not there was deleted
}

// Network is a network of the cluster.
type Network struct {
	ID       string
	Name     string
	Internal bool
	Deleting bool
	Labels   map[string]string
	Options  map[string]string // driver options
	Subnets  []Subnet
}

// Subnet is a network's addresses of one family.
type Subnet struct {
	CIDR    netip.Prefix
	Gateway netip.Addr
	Range   netip.Prefix // zero: the whole subnet
	Aux     map[string]netip.Addr
}

// Endpoint is a container's place on a network, before it has an interface.
type Endpoint struct {
	ID       string // Docker's, 64 hex digits
	DockerID string // of the Docker network, 64 hex digits
	Network  string // Network.ID
	Addr     netip.Addr
	MAC      string // empty: the agent's choice
}

// Interface is what Docker fetches from the host namespace.
type Interface struct {
	Name    string
	Gateway netip.Addr
}

// Container is what an engine says of an endpoint's container.
type Container struct {
	ID      string // 64 hex digits
	Name    string
	Aliases []string
	Health  string // "starting", "healthy", "unhealthy"; empty: unknown
	// Resolvers are the DNS servers that it was started with, beside Docker's own.
	Resolvers []netip.Addr
	// Others are its addresses on its other networks, sorted.
	Others []netip.Addr
}
