package book

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// bind makes an endpoint of a leased address.
func (b *Book) bind(ctx context.Context, n discovery.Network, e docker.Endpoint) (journal.Local, error) {
	unlock, err := b.steps.Lock(ctx, journal.DockerLock(e.ID))
	if err != nil {
		return journal.Local{}, err
	}
	defer unlock()
	if l, ok := b.Journal.OfDocker(e.ID); ok {
		return l, nil
	}
	mac := plan.EndpointMAC(n.VNI, e.Addr)
	if e.MAC != "" {
		var ok bool
		if mac, ok = endpoint.ParseMAC(e.MAC); !ok {
			return journal.Local{}, api.Errorf(api.KindMisuse, "%q is no unicast MAC address such as 0e:00:0a:40:00:05", e.MAC)
		}
	}
	release, err := b.steps.HoldMAC(ctx, n, mac)
	if err != nil {
		return journal.Local{}, err
	}
	defer release()
	if l, ok, err := b.takeUp(n, e, mac); ok || err != nil {
		return l, err
	}
	// The lease was given up: Docker has taken its time, or this host was no
	// member in between.
	lease, err := b.lease(ctx, n, e.Addr)
	if err != nil {
		return journal.Local{}, err
	}
	l, ok, err := b.takeUp(n, e, mac)
	if err == nil && !ok {
		err = api.Errorf(api.KindConflict, "address %s was taken meanwhile", lease.Addr)
	}
	return l, err
}

// takeUp makes an endpoint of the lease of its address; false: there is none.
func (b *Book) takeUp(n discovery.Network, e docker.Endpoint, mac discovery.MAC) (journal.Local, bool, error) {
	b.claiming.Lock()
	defer b.claiming.Unlock()
	o, ok := b.unclaimedLease(n.ID, e.Addr)
	if !ok {
		return journal.Local{}, false, nil
	}
	l := journal.Local{
		Endpoint: discovery.Endpoint{ID: o.Owner, Network: n.ID, IPv4: e.Addr, Seq: o.Seq, MAC: mac, Runtime: discovery.RuntimeDocker},
		Docker:   &journal.DockerEndpoint{EndpointID: e.ID, NetworkID: e.DockerID},
		Addrs:    []netip.Prefix{o.Addr}, Created: time.Now().UTC(),
	}
	if err := b.Journal.Put(l); err != nil {
		return journal.Local{}, false, err
	}
	b.claimed(o.Owner)
	return l, true, nil
}

// join makes the endpoint's interface, for Docker to fetch.
func (b *Book) join(ctx context.Context, id, sandboxKey string) (docker.Interface, error) {
	unlock, err := b.steps.Lock(ctx, journal.DockerLock(id))
	if err != nil {
		return docker.Interface{}, err
	}
	defer unlock()
	l, ok := b.Journal.OfDocker(id)
	if !ok {
		return docker.Interface{}, api.Errorf(api.KindNotFound, "join: no endpoint %s", id)
	}
	n, ok := b.Networks.Get(l.Endpoint.Network)
	if !ok {
		return docker.Interface{}, api.Errorf(api.KindNotFound, "join: the network was deleted").WithHint("agentctl network ls")
	}
	if err := b.steps.Plug(ctx, n, inSandbox(l, sandboxKey)); err != nil {
		return docker.Interface{}, b.Explain("join "+n.Name, err)
	}
	out := docker.Interface{Name: overlay.WaitingName(l.Endpoint.ID.String())}
	for _, sub := range n.Subnets {
		if sub.CIDR.Contains(l.Addrs[0].Addr()) {
			out.Gateway = sub.Gateway
		}
	}
	return out, nil
}

// inSandbox is the endpoint in a sandbox of Docker's; in none when the key is empty.
func inSandbox(l journal.Local, key string) journal.Local {
	docker := *l.Docker
	docker.SandboxKey = key
	l.Docker = &docker
	return l
}

// lockKnown finds an endpoint of Docker's and takes its lock; false, with nothing
// locked, when there is none.
func (b *Book) lockKnown(ctx context.Context, id string) (l journal.Local, unlock func(), ok bool, err error) {
	unlock, err = b.steps.Lock(ctx, journal.DockerLock(id))
	if err != nil {
		return journal.Local{}, nil, false, err
	}
	if l, ok = b.Journal.OfDocker(id); !ok {
		unlock()
		return journal.Local{}, nil, false, nil
	}
	return l, unlock, true, nil
}

// leave withdraws an endpoint. Neither the next agent nor a late word on its names
// announces it again.
func (b *Book) leave(ctx context.Context, id string) error {
	l, unlock, ok, err := b.lockKnown(ctx, id)
	if !ok {
		return err
	}
	defer unlock()
	b.steps.Withdraw(ctx, l, l.Docker.SandboxKey != "")
	return b.steps.Update(ctx, inSandbox(l, ""), false)
}

// remove forgets an endpoint; its address stays leased.
func (b *Book) remove(ctx context.Context, id string) error {
	l, unlock, ok, err := b.lockKnown(ctx, id)
	if !ok {
		return err
	}
	defer unlock()
	return b.forget(ctx, l)
}

func (b *Book) forget(ctx context.Context, l journal.Local) error {
	b.found(l)
	return b.steps.Forget(ctx, l)
}

// describe takes what the engine says of an endpoint's container.
func (b *Book) describe(ctx context.Context, id string, c docker.Container) error {
	l, unlock, ok, err := b.lockKnown(ctx, id)
	if !ok {
		return err
	}
	defer unlock()
	b.Resolvers.Set(id, c.Resolvers)
	b.Resolvers.SetOtherAddrs(l.Endpoint.ID, c.Others)
	next := l
	next.Container = c.ID
	next.Endpoint.Name = nameOf(c)
	next.Endpoint.Aliases = aliases(c)
	next.Endpoint.Health = health[c.Health]
	if next.Container == l.Container && next.Endpoint.Equal(l.Endpoint) {
		return nil
	}
	return b.steps.Update(ctx, next, l.Docker.SandboxKey != "") // else join announces it
}

// health are Docker's words for an endpoint's health.
var health = map[string]discovery.Health{
	"starting": discovery.HealthStarting, "healthy": discovery.HealthHealthy, "unhealthy": discovery.HealthUnhealthy,
}

// longestName is that of DNS (RFC 1035, section 2.3.4). Docker takes longer ones,
// which would only weigh on every packet of gossip.
const longestName = 253

// nameOf is a container's name as its endpoint has it.
func nameOf(c docker.Container) string {
	if len(c.Name) > longestName {
		return api.Label(c.Name) // no other member takes a longer one
	}
	return strings.ToLower(c.Name)
}

// aliases are a container's other names, as an endpoint has them. One that
// DNS cannot carry is kept, for status to name, unless it is too long for that.
func aliases(c docker.Container) []string {
	var out []string
	for _, a := range c.Aliases {
		if a = strings.ToLower(a); a != strings.ToLower(c.Name) && len(a) <= longestName {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
