package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Bind implements docker.Agent: the endpoint is in the journal, without an
// interface, and not announced.
func (d dockerSide) Bind(ctx context.Context, e docker.Endpoint) (mac string, err error) {
	s, err := d.require()
	if err != nil {
		return "", err
	}
	n, ok := s.network(e.Network)
	if !ok {
		return "", noNetwork(e.Network)
	}
	defer s.locks.lock(dockerLock(e.ID))()
	l, err := s.bind(ctx, n, e)
	if err != nil {
		return "", s.explain("endpoint "+e.Addr.String()+" in "+n.Name, err)
	}
	return l.Endpoint.MAC.String(), nil
}

func (s *session) bind(ctx context.Context, n discovery.Network, e docker.Endpoint) (Local, error) {
	if l, ok := s.journal.ofDocker(e.ID); ok {
		return l, nil
	}
	mac := endpointMAC(n.VNI, e.Addr)
	if e.MAC != "" {
		var ok bool
		if mac, ok = parseMAC(e.MAC); !ok {
			return Local{}, api.Errorf(api.KindMisuse, "%q is no unicast MAC address such as 0e:00:0a:40:00:05", e.MAC)
		}
	}
	release, err := s.holdMAC(ctx, n, mac)
	if err != nil {
		return Local{}, err
	}
	defer release()
	if l, ok, err := s.claim(n, e, mac); ok || err != nil {
		return l, err
	}
	// The lease was given up: Docker has taken its time, or this host was no
	// member in between.
	lease, err := s.lease(ctx, n, e.Addr)
	if err != nil {
		return Local{}, err
	}
	l, ok, err := s.claim(n, e, mac)
	if err == nil && !ok {
		err = api.Errorf(api.KindConflict, "address %s was taken meanwhile", lease.Addr)
	}
	return l, err
}

// claim makes an endpoint of the lease of its address; false: there is none.
func (s *session) claim(n discovery.Network, e docker.Endpoint, mac discovery.MAC) (Local, bool, error) {
	s.docker.claiming.Lock()
	defer s.docker.claiming.Unlock()
	o, ok := s.unclaimedLease(n.ID, e.Addr)
	if !ok {
		return Local{}, false, nil
	}
	l := Local{
		Endpoint: discovery.Endpoint{ID: o.Owner, Network: n.ID, IPv4: e.Addr, Seq: o.Seq, MAC: mac, Runtime: runtimeDocker},
		Docker:   &DockerLocal{EndpointID: e.ID, NetworkID: e.DockerID},
		Addrs:    []netip.Prefix{o.Addr}, Created: time.Now().UTC(),
	}
	if err := s.journal.put(l); err != nil {
		return Local{}, false, err
	}
	s.docker.claimed(o.Owner)
	return l, true, nil
}

// Join implements docker.Agent: when it returns, what Docker fetches reaches
// this host's endpoints and is announced to the others.
func (d dockerSide) Join(ctx context.Context, endpoint, sandboxKey string) (docker.Interface, error) {
	s, err := d.require()
	if err != nil {
		return docker.Interface{}, err
	}
	defer s.locks.lock(dockerLock(endpoint))()
	l, ok := s.journal.ofDocker(endpoint)
	if !ok {
		return docker.Interface{}, api.Errorf(api.KindNotFound, "join: no endpoint %s", endpoint)
	}
	n, ok := s.network(l.Endpoint.Network.String())
	if !ok {
		return docker.Interface{}, api.Errorf(api.KindNotFound, "join: the network was deleted").WithHint("agentctl network ls")
	}
	if err := s.join(ctx, n, l, sandboxKey); err != nil {
		return docker.Interface{}, s.explain("join "+n.Name, err)
	}
	out := docker.Interface{Name: overlay.WaitingName(l.Endpoint.ID.String())}
	for _, sub := range n.Subnets {
		if sub.CIDR.Contains(l.Addrs[0].Addr()) {
			out.Gateway = sub.Gateway
		}
	}
	return out, nil
}

func (s *session) join(ctx context.Context, n discovery.Network, l Local, sandboxKey string) error {
	s.carry(n.ID)
	if !s.programmed(n.ID) {
		if err := s.settle(ctx); err != nil {
			s.log.Warn("network not whole in the kernel", "network", n.Name, "err", err)
		}
	}
	if err := s.unplugs.wait(ctx, l.Addrs[0].Addr()); err != nil {
		return err
	}
	joined := *l.Docker
	joined.SandboxKey = sandboxKey
	l.Docker = &joined
	// The disk and the kernel work side by side. When either fails Docker removes
	// the endpoint, and the interface goes with it.
	written := make(chan error, 1)
	go func() { written <- s.journal.put(l) }()
	err := s.overlay.Attach(ctx, s.link(n, l))
	if err = errors.Join(err, <-written); err != nil {
		return err
	}
	s.directory.Announce([]discovery.Endpoint{l.Endpoint}, nil)
	s.poke()
	return nil
}

// known finds an endpoint of Docker's and takes its lock. The session is nil, and
// nothing locked, where there is nothing to do.
func (d dockerSide) known(endpoint string) (s *session, l Local, unlock func()) {
	if s = d.settled(); s == nil {
		return nil, Local{}, nil
	}
	unlock = s.locks.lock(dockerLock(endpoint))
	l, ok := s.journal.ofDocker(endpoint)
	if !ok {
		unlock()
		return nil, Local{}, nil
	}
	return s, l, unlock
}

// Leave implements docker.Agent: the others forget the endpoint. Its interface
// goes in the background, at once: what Docker does not find in the container it
// does not move out of it, which takes the kernel as long as removing it.
func (d dockerSide) Leave(ctx context.Context, endpoint string) error {
	s, l, unlock := d.known(endpoint)
	if s == nil {
		return nil
	}
	defer unlock()
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	s.poke()
	if l.Docker.SandboxKey != "" {
		s.unplug(ctx, l, func() {}, s.unplugs.begin(l.Endpoint))
	}
	// Neither the next agent nor a late word on its names announces it again.
	left := *l.Docker
	left.SandboxKey = ""
	l.Docker = &left
	return s.journal.put(l)
}

// Remove implements docker.Agent. The address stays leased: Docker releases it
// next.
func (d dockerSide) Remove(ctx context.Context, endpoint string) error {
	s, l, unlock := d.known(endpoint)
	if s == nil {
		return nil
	}
	defer unlock()
	return s.forgetEndpoint(ctx, l)
}

// forgetEndpoint returns when nobody is told of the endpoint any more; its
// interface goes in the background, unless it does already.
func (s *session) forgetEndpoint(ctx context.Context, l Local) error {
	gone := func() {}
	leaving := s.unplugs.removing(l.Endpoint.ID)
	if !leaving {
		gone = s.unplugs.begin(l.Endpoint)
	}
	s.carry(l.Endpoint.Network)
	s.forgetAsking(l)
	s.docker.found(l)
	if err := s.journal.remove(l.Endpoint.ID); err != nil {
		gone()
		return err
	}
	s.directory.Announce(nil, []discovery.EndpointID{l.Endpoint.ID})
	s.poke()
	s.ports.Release(l.Endpoint.ID, l.Ports) // Docker has revoked them, if it was there to do so
	if !leaving {
		s.unplug(ctx, l, func() {}, gone)
	}
	return nil
}

// Publish implements docker.Agent.
func (d dockerSide) Publish(ctx context.Context, endpoint string, ports []string) error {
	s, err := d.require()
	if err != nil {
		return err
	}
	want, err := hostport.Parse(ports)
	if err != nil {
		return err
	}
	l, ok := s.journal.ofDocker(endpoint)
	if !ok {
		return api.Errorf(api.KindNotFound, "publish: no endpoint %s", endpoint)
	}
	_, err = s.publish(ctx, l.Endpoint.ID, want)
	return err
}

// Unpublish implements docker.Agent.
func (d dockerSide) Unpublish(ctx context.Context, endpoint string) error {
	s := d.settled()
	if s == nil {
		return nil
	}
	l, ok := s.journal.ofDocker(endpoint)
	if !ok {
		return nil
	}
	return s.unpublish(ctx, l.Endpoint.ID)
}

// Describe implements docker.Agent.
func (d dockerSide) Describe(_ context.Context, endpoint string, c docker.Container) error {
	s, l, unlock := d.known(endpoint)
	if s == nil {
		return nil
	}
	defer unlock()
	s.setResolvers(endpoint, c.Resolvers)
	s.setBridged(l.Endpoint.ID, c.Others)
	next := l
	next.Container = c.ID
	next.Endpoint.Name = strings.ToLower(c.Name)
	next.Endpoint.Aliases = dockerAliases(c)
	next.Endpoint.Health = dockerHealth[c.Health]
	if next.Container == l.Container && next.Endpoint.Equal(l.Endpoint) {
		return nil
	}
	if err := s.journal.put(next); err != nil {
		return err
	}
	if l.Docker.SandboxKey == "" {
		return nil // announced by Join
	}
	s.directory.Announce([]discovery.Endpoint{next.Endpoint}, nil)
	s.poke()
	return nil
}

// dockerHealth are Docker's words for an endpoint's health.
var dockerHealth = map[string]discovery.Health{
	"starting": discovery.HealthStarting, "healthy": discovery.HealthHealthy, "unhealthy": discovery.HealthUnhealthy,
}

// longestName is that of DNS (RFC 1035, section 2.3.4). Docker takes longer ones,
// which would only weigh on every packet of gossip.
const longestName = 253

// dockerAliases are a container's other names, as an endpoint has them. One that
// DNS cannot carry is kept, for status to name, unless it is too long for that.
func dockerAliases(c docker.Container) []string {
	var out []string
	for _, a := range c.Aliases {
		if a = strings.ToLower(a); a != strings.ToLower(c.Name) && len(a) <= longestName {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
