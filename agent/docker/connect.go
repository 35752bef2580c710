package docker

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/weft-net/weft/agent/api"
)

// Connection is a container that is to be on a network of the cluster.
type Connection struct {
	Network   string // Network.ID
	Container string // name or id, as Docker knows it
	Aliases   []string
	IP, MAC   string // empty: any
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
// is api.KindNotFound.
func (s *Service) Connect(ctx context.Context, r Connection) (Connected, error) {
	c, object, name, err := s.engine.object(r.Network)
	if err != nil {
		return Connected{}, err
	}
	if r.MAC != "" && versions.LessThan(c.ClientVersion(), macAPI) {
		return Connected{}, api.Errorf(api.KindMisuse, "--mac %s: this Docker gives one only to a container that it starts; version 25 is the first that can here", r.MAC).
			WithHint("docker run --network %s --mac-address %s ... # or leave --mac out", name, r.MAC)
	}
	settings := &network.EndpointSettings{Aliases: r.Aliases}
	if r.IP != "" {
		a, err := netip.ParseAddr(r.IP)
		if err != nil || !a.Is4() {
			return Connected{}, api.Errorf(api.KindMisuse, "--ip %q is no IPv4 address", r.IP)
		}
		settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: a}
	}
	if r.MAC != "" {
		mac, err := net.ParseMAC(r.MAC)
		if err != nil {
			return Connected{}, api.Errorf(api.KindMisuse, "--mac %q is no hardware address such as 0e:00:0a:40:00:05", r.MAC)
		}
		settings.MacAddress = network.HardwareAddr(mac)
	}
	if _, err := c.NetworkConnect(ctx, object, client.NetworkConnectOptions{Container: r.Container, EndpointConfig: settings}); err != nil {
		return Connected{}, s.driver.refused.said(err)
	}
	got, err := c.ContainerInspect(ctx, r.Container, client.ContainerInspectOptions{})
	if err != nil {
		return Connected{}, s.driver.refused.said(err)
	}
	out := Connected{Name: strings.TrimPrefix(got.Container.Name, "/")}
	if n := got.Container.NetworkSettings; n != nil && n.Networks[name] != nil {
		out.Endpoint = n.Networks[name].EndpointID
	}
	return out, nil
}

// Disconnect asks the engine to take a container off a network.
func (s *Service) Disconnect(ctx context.Context, networkID, container string, force bool) error {
	c, object, _, err := s.engine.object(networkID)
	if err != nil {
		return err
	}
	_, err = c.NetworkDisconnect(ctx, object, client.NetworkDisconnectOptions{Container: container, Force: force})
	return s.driver.refused.said(err)
}

// Found reports whether an engine of this host is followed.
func (s *Service) Found() bool { return s.engine.client() != nil }

// object is the Docker network that stands for a network of the cluster.
func (e *engine) object(networkID string) (c *client.Client, id, name string, err error) {
	cluster, err := e.agent.Cluster()
	if err != nil {
		return nil, "", "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.api == nil {
		return nil, "", "", api.Errorf(api.KindFailed, "the Docker engine does not answer").WithHint("docker version; journalctl -u docker")
	}
	for id, name := range e.objects {
		if cluster.Objects[id] == networkID {
			return e.api, id, name, nil
		}
	}
	return nil, "", "", api.Errorf(api.KindConflict, "Docker has no such network here yet").WithHint("agentctl status # its line docker says why")
}
