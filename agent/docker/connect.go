package docker

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
)

// Connection is a container that is to be on a network of the cluster.
type Connection struct {
	Network   string // Network.ID
	Container string // name or id, as Docker knows it
	Aliases   []string
	IP        netip.Addr       // IPv4; zero: any
	MAC       net.HardwareAddr // nil: any
}

// Connected is a container that the engine has put on a network.
type Connected struct {
	Name     string // of the container
	Endpoint string // id; empty: the container does not run, and gets one when it starts
}

// macAPI is the first version of the API in which a container is connected with a
// hardware address; before, it is ignored.
const macAPI = "1.44"

// Connect asks the engine to put a container on a network. An unknown container
// is api.KindNotFound, one that is on the network already api.KindConflict.
func (s *Service) Connect(ctx context.Context, r Connection) (Connected, error) {
	on, err := s.engine.objectsOf(r.Network)
	if err != nil {
		return Connected{}, err
	}
	c, err := s.inspect(ctx, r.Container)
	if err != nil {
		return Connected{}, err
	}
	already, ok, err := on.of(ctx, c)
	if err != nil {
		return Connected{}, s.driver.refused.said(err, c.name())
	}
	if ok {
		return Connected{}, api.Errorf(api.KindConflict, "%s is on it already, by Docker's network %s", c.name(), already.name).WithHint("agentctl ps")
	}
	if r.MAC != nil && versions.LessThan(on.api.ClientVersion(), macAPI) {
		return Connected{}, api.Errorf(api.KindMisuse, "--mac %s: this Docker gives one only to a container that it starts; version 25 is the first that can here", r.MAC).
			WithHint("docker run --network %s --mac-address %s ... # or leave --mac out", on.all[0].name, r.MAC)
	}
	settings := &network.EndpointSettings{Aliases: r.Aliases, MacAddress: network.HardwareAddr(r.MAC)}
	if r.IP.IsValid() {
		settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: r.IP}
	}
	if _, err := on.api.NetworkConnect(ctx, on.all[0].id, client.NetworkConnectOptions{Container: c.ID, EndpointConfig: settings}); err != nil {
		return Connected{}, s.driver.refused.said(err, c.name())
	}
	if c, err = s.inspect(ctx, c.ID); err != nil {
		return Connected{}, err
	}
	at, _, err := on.of(ctx, c)
	return Connected{Name: c.name(), Endpoint: at.endpoint}, s.driver.refused.said(err, c.name())
}

// Disconnect asks the engine to take a container off a network. A container that
// is unknown, or not on it, is api.KindNotFound.
func (s *Service) Disconnect(ctx context.Context, networkID, container string, force bool) error {
	on, err := s.engine.objectsOf(networkID)
	if err != nil {
		return err
	}
	c, err := s.inspect(ctx, container)
	if err != nil {
		return err
	}
	from, ok, err := on.of(ctx, c)
	if err != nil {
		return s.driver.refused.said(err, c.name())
	}
	if !ok {
		return api.Errorf(api.KindNotFound, "%s is not on that network", c.name()).WithHint("agentctl ps")
	}
	_, err = on.api.NetworkDisconnect(ctx, from.id, client.NetworkDisconnectOptions{Container: c.ID, Force: force})
	return s.driver.refused.said(err, c.name())
}

// containerInfo is a container as the engine has it.
type containerInfo struct{ container.InspectResponse }

func (c containerInfo) name() string { return strings.TrimPrefix(c.Name, "/") }

func (c containerInfo) keys() discovery.Keys {
	return discovery.Keys{Name: c.name(), IDs: []string{c.ID}}
}

func (s *Service) inspect(ctx context.Context, name string) (containerInfo, error) {
	c := s.engine.client()
	if c == nil {
		return containerInfo{}, errAway()
	}
	got, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return containerInfo{}, s.driver.refused.said(err, name)
	}
	// Docker takes the start of an id however short: a word that is meant as a name
	// would be a container whose id happens to begin so.
	one := containerInfo{got.Container}
	if _, err := discovery.Find([]containerInfo{one}, name, containerInfo.keys); err != nil {
		return containerInfo{}, api.Errorf(api.KindNotFound, "Docker: No such container: %s", name)
	}
	return one, nil
}

// Found reports whether an engine of this host is followed, and answers.
func (s *Service) Found() bool {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.engine.answering()
}

// Engine returns the version of the engine that is followed, also of one that does
// not answer any more, and the newest of its API; empty ones: none is.
func (s *Service) Engine() (version, api string) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api == nil {
		return "", ""
	}
	return e.version.Version, e.version.APIVersion
}

// objects are the Docker networks that stand for one of the cluster: first the one
// of its name, which the agent makes, then those that users made, by name.
type objects struct {
	api *client.Client
	all []object
}

type object struct {
	id, name string
	endpoint string // of the container that was asked for
}

// of is the object that a container is on. The network says so of one that runs,
// since the container keeps a connection that failed; of one that does not the
// container does.
func (o objects) of(ctx context.Context, c containerInfo) (object, bool, error) {
	running := c.State != nil && c.State.Running
	for _, at := range o.all {
		if !running {
			if c.NetworkSettings != nil && c.NetworkSettings.Networks[at.name] != nil {
				return at, true, nil
			}
			continue
		}
		n, err := inspectNetwork(ctx, o.api, at.id)
		if err != nil {
			return object{}, false, err
		}
		if r, ok := n.Containers[c.ID]; ok {
			at.endpoint = r.EndpointID
			return at, true, nil
		}
	}
	return object{}, false, nil
}

// errAway is what is said when there is no engine to ask.
func errAway() error {
	return api.Errorf(api.KindFailed, "the Docker engine does not answer").WithHint("systemctl start docker # then docker version")
}

// answering reports whether there is an engine that does not hang; mu is held.
func (e *engine) answering() bool { return e.api != nil && e.silent.IsZero() }

func (e *engine) objectsOf(networkID string) (objects, error) {
	cluster, err := e.agent.Cluster()
	if err != nil {
		return objects{}, err
	}
	of, _ := cluster.byID(networkID)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.answering() {
		return objects{}, errAway()
	}
	out := objects{api: e.api}
	for id, name := range e.objects {
		if cluster.Objects[id] == networkID {
			out.all = append(out.all, object{id: id, name: name})
		}
	}
	if len(out.all) == 0 {
		return out, api.Errorf(api.KindConflict, "Docker has no such network here yet").WithHint("agentctl status # its line docker says why")
	}
	other := func(o object) int { // than the one of the cluster's name
		if o.name == of.Name {
			return 0
		}
		return 1
	}
	slices.SortFunc(out.all, func(a, b object) int { return cmp.Or(other(a)-other(b), cmp.Compare(a.name, b.name)) })
	return out, nil
}
