package docker

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// driver answers an engine's calls.
type driver struct {
	agent   Agent
	log     *slog.Logger
	refused refusals
	// refusedBy is why the cluster does not take a declared Docker network, by its id;
	// nil: it may yet.
	refusedBy func(dockerID string) error

	mu      sync.Mutex
	asked   map[string]time.Time       // network id: a pool of the driver's choice was given, and nothing made of it yet
	offered map[netip.Prefix]time.Time // pools of networks that Docker is making, since when
}

func newDriver(a Agent, log *slog.Logger) *driver {
	return &driver{agent: a, log: log, refusedBy: func(string) error { return nil }, asked: map[string]time.Time{}, offered: map[netip.Prefix]time.Time{}}
}

// createNetwork checks that a Docker network is like the network that it stands
// for, or that the cluster may get it, and remembers it: Docker never says it again.
func (d *driver) createNetwork(_ context.Context, q networkRequest) (nothing, error) {
	c, err := d.agent.Cluster()
	if err != nil {
		return nothing{}, err
	}
	n, known, err := standsFor(c, q)
	if err != nil {
		return nothing{}, err
	}
	if !known {
		return nothing{}, d.declare(q)
	}
	if err := checkSettings(n, q); err != nil {
		return nothing{}, err
	}
	d.answered(n.ID)
	return nothing{}, d.agent.Adopt(q.NetworkID, n.ID)
}

// standsFor finds the network of a Docker network; false: the cluster has none. The
// request does not say which pool was asked for, only the subnet: two networks may
// have the same.
func standsFor(c Cluster, q networkRequest) (n Network, known bool, err error) {
	name := q.Options.Generic[networkOption]
	meant, _ := c.named(name)
	if len(q.IPv4Data) != 1 || len(q.IPv6Data) != 0 || q.Options.IPv6 {
		return n, false, api.Errorf(api.KindMisuse, "a network has one IPv4 subnet in this release").WithHint("%s", q.line(meant))
	}
	data := q.IPv4Data[0]
	if data.AddressSpace != addressSpace {
		return n, false, api.Errorf(api.KindMisuse, "Docker's own IPAM would give every address once more on each host").
			WithHint("%s # in a compose file: ipam: {driver: weft}", q.line(meant))
	}
	found := c.with(data.Pool)
	if name != "" {
		if meant.ID == "" {
			return n, false, noNetwork(name)
		}
		if !slices.ContainsFunc(found, func(f Network) bool { return f.ID == meant.ID }) {
			return n, false, api.Errorf(api.KindMisuse, "-o network=%s: that network does not have the subnet %s", name, data.Pool).WithHint("%s", byHand(meant))
		}
		return meant, true, nil
	}
	switch len(found) {
	case 0:
		return n, false, nil
	case 1:
		return found[0], true, nil
	}
	return n, false, api.Errorf(api.KindConflict, "several networks have the subnet %s: %s", data.Pool, named(found)).WithHint("%s", byHand(found[0]))
}

// checkSettings refuses what is set otherwise than for the whole cluster.
func checkSettings(n Network, q networkRequest) error {
	if n.Deleting {
		return api.Errorf(api.KindConflict, "network %s is being deleted", n.Name).WithHint("agentctl network ls")
	}
	otherwise := func(remedy, format string, args ...any) error {
		return api.Errorf(api.KindMisuse, format, args...).WithHint("%s # %s", byHand(n), remedy)
	}
	if q.Options.Internal != n.Internal {
		words := map[bool]string{true: "internal", false: "not internal"}
		return otherwise(map[bool]string{true: "add --internal", false: "leave --internal out"}[n.Internal], "network %s is %s", n.Name, words[n.Internal])
	}
	options := settings(q.Options.Generic)
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		switch have, known := n.Options[k]; {
		case known && have == v:
		case known:
			return otherwise("leave it out", "-o %s=%s: network %s has %s", k, v, n.Name, have)
		default:
			return otherwise("settings are given when it is made; agentctl network inspect "+n.Name, "-o %s: network %s has no such setting", k, n.Name)
		}
	}
	sub, _ := n.subnet4()
	for _, name := range slices.Sorted(maps.Keys(q.IPv4Data[0].AuxAddresses)) {
		a, err := netip.ParsePrefix(q.IPv4Data[0].AuxAddresses[name])
		if err != nil || !sub.kept(a.Addr()) {
			return otherwise("leave it out", "--aux-address %s=%s: network %s does not keep it", name, a.Addr(), n.Name)
		}
	}
	return nil
}

// deleteNetwork forgets this host's object. The network itself is the cluster's.
func (d *driver) deleteNetwork(_ context.Context, q networkRequest) (nothing, error) {
	return nothing{}, d.agent.Drop(q.NetworkID)
}

func (d *driver) createEndpoint(ctx context.Context, q endpointRequest) (endpointAnswer, error) {
	c, err := d.agent.Cluster()
	if err != nil {
		return endpointAnswer{}, err
	}
	n, ok := c.byID(c.Objects[q.NetworkID])
	if !ok {
		return endpointAnswer{}, api.Errorf(api.KindNotFound, "this Docker network stands for no network of the cluster").
			WithHint("agentctl network ls # docker network rm takes away one that stands for none")
	}
	a, err := netip.ParsePrefix(q.Interface.Address)
	if err != nil {
		return endpointAnswer{}, api.Errorf(api.KindMisuse, "%q is no address with a length", q.Interface.Address)
	}
	mac, err := d.agent.Bind(ctx, Endpoint{ID: q.EndpointID, DockerID: q.NetworkID, Network: n.ID, Addr: a.Addr(), MAC: q.Interface.MacAddress})
	if err != nil {
		return endpointAnswer{}, err
	}
	var out endpointAnswer
	if q.Interface.MacAddress == "" {
		out.Interface.MacAddress = mac
	}
	return out, nil
}

// join answers with the gateway, on internal networks too: their way out is
// closed by the filter, and without a gateway Docker gives the container a
// second interface.
func (d *driver) join(ctx context.Context, q endpointRequest) (joinAnswer, error) {
	i, err := d.agent.Join(ctx, q.EndpointID, q.SandboxKey)
	if err != nil {
		return joinAnswer{}, err
	}
	var out joinAnswer
	out.InterfaceName.SrcName, out.InterfaceName.DstPrefix = i.Name, "eth"
	out.Gateway = i.Gateway.String()
	return out, nil
}

func (d *driver) leave(ctx context.Context, q endpointRequest) (nothing, error) {
	return nothing{}, d.agent.Leave(ctx, q.EndpointID)
}

func (d *driver) deleteEndpoint(ctx context.Context, q endpointRequest) (nothing, error) {
	return nothing{}, d.agent.Remove(ctx, q.EndpointID)
}
