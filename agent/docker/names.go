package docker

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// names learns whose the endpoints are. Docker tells a driver no names; an
// event says that there is something to learn, and a question answers what. A
// container that is starting keeps its inspection waiting for as long, so each
// one is asked about by a goroutine of its own; the network, which does not
// wait, says the name before the container's first instruction.
type names struct {
	ctx   context.Context
	api   *client.Client
	agent Agent
	log   *slog.Logger
	group sync.WaitGroup

	mu  sync.Mutex
	all map[string]*known
}

// known is a container as last inspected. The mutex of names guards all but
// publishing.
type known struct {
	id        string
	name      string
	hostname  string
	health    string
	aliases   map[string][]string // by name of the network
	endpoints map[string]string   // endpoint id to network name: those it has now
	resolvers []netip.Addr
	addrs     map[string][]netip.Addr // by name of the network
	answers   int                     // inspections that were answered
	looking   bool                    // somebody inspects it
	again     chan struct{}           // filled: and must once more

	publishing sync.Mutex // held by whoever tells the agent
}

func newNames(ctx context.Context, c *client.Client, a Agent, log *slog.Logger) *names {
	return &names{ctx: ctx, api: c, agent: a, log: log, all: map[string]*known{}}
}

func (n *names) wait() { n.group.Wait() }

// get returns what is known of a container. mu is held.
func (n *names) get(cid string) *known {
	k := n.all[cid]
	if k == nil {
		k = &known{id: cid, aliases: map[string][]string{}, endpoints: map[string]string{}, again: make(chan struct{}, 1)}
		n.all[cid] = k
	}
	return k
}

// connected says that a container was put on a network of ours: the network
// knows name and endpoint, and what was learned when the container was made
// knows the rest.
func (n *names) connected(dockerID, cid string) {
	n.mu.Lock()
	k := n.get(cid)
	answers := k.answers
	n.mu.Unlock()
	n.group.Go(func() {
		got, err := inspectNetwork(n.ctx, n.api, dockerID)
		if err != nil {
			return // the container says the same, only later
		}
		if r, ok := got.Containers[cid]; ok && n.listed(k, answers, got.Name, r) {
			n.publish(k)
		}
	})
	n.look(cid)
}

// listed notes a network's word on a container that had been inspected answers
// times when the network was asked; false: the container is gone. A name that an
// inspection said since is newer.
func (n *names) listed(k *known, answers int, of string, r network.EndpointResource) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all[k.id] != k {
		return false
	}
	if k.answers == answers {
		k.name = r.Name
	}
	k.endpoints[r.EndpointID] = of
	return true
}

// endpoint says what a network listed, and looks closer at a container that
// nothing is known of.
func (n *names) endpoint(cid, endpoint, name string) {
	n.mu.Lock()
	k := n.get(cid)
	_, known := k.endpoints[endpoint]
	if k.name == "" {
		k.name = name
	}
	n.mu.Unlock()
	if !known {
		n.look(cid)
	}
}

// disconnected looks again at a container of ours: an address that it had on a
// network of somebody else's is another's next.
func (n *names) disconnected(cid string) {
	n.mu.Lock()
	_, known := n.all[cid]
	n.mu.Unlock()
	if known {
		n.look(cid)
	}
}

// forget drops a container that was removed.
func (n *names) forget(cid string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, cid)
}

// look inspects a container; while that is under way, once more after it.
func (n *names) look(cid string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.get(cid)
	if k.looking {
		select {
		case k.again <- struct{}{}:
		default:
		}
		return
	}
	k.looking = true
	n.group.Go(func() { n.learn(k) })
}

// inspectAgain are the pauses after inspections that were not answered; the last
// one is that of all further ones.
var inspectAgain = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second}

// learn inspects a container until it was answered and nobody wants another
// look, or the container is gone.
func (n *names) learn(k *known) {
	for failed := 0; ; {
		err := n.inspect(k)
		if err == nil {
			n.publish(k)
			if failed = 0; !n.wanted(k) {
				return
			}
			continue
		}
		if noContainer(err) {
			n.drop(k) // it was removed, and its last event may be over
		}
		if !n.knows(k) {
			return
		}
		select {
		case <-n.ctx.Done():
			return
		case <-k.again:
		case <-time.After(inspectAgain[min(failed, len(inspectAgain)-1)]):
		}
		if failed++; failed == len(inspectAgain) {
			n.log.Warn("container cannot be inspected, its aliases may be missing", "container", k.id, "err", err)
		}
	}
}

// wanted reports whether a container is to be inspected again; if not, the next
// look begins anew.
func (n *names) wanted(k *known) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-k.again:
	default:
		k.looking = false
	}
	return k.looking
}

// drop forgets a container unless another run of learn has it.
func (n *names) drop(k *known) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all[k.id] == k {
		delete(n.all, k.id)
	}
}

// knows reports whether nobody has forgotten a container.
func (n *names) knows(k *known) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[k.id] == k
}

// inspect learns all there is to know of a container.
func (n *names) inspect(k *known) error {
	ctx, cancel := context.WithTimeout(n.ctx, engineWait)
	defer cancel()
	got, err := n.api.ContainerInspect(ctx, k.id, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k.answers++
	k.take(got.Container)
	return nil
}

// publish tells the agent what is known of a container. One does at a time, and
// each says what is known at its turn: so what is said last is the newest.
func (n *names) publish(k *known) {
	k.publishing.Lock()
	defer k.publishing.Unlock()
	n.mu.Lock()
	all := map[string]Container{}
	for endpoint, network := range k.endpoints {
		all[endpoint] = k.describe(network)
	}
	n.mu.Unlock()
	for endpoint, c := range all {
		if err := n.agent.Describe(n.ctx, endpoint, c); err != nil && n.ctx.Err() == nil {
			n.log.Warn("container's names not kept", "container", c.Name, "err", err)
		}
	}
}

// take reads what the engine says. Before a container starts its endpoints have
// no id yet.
func (k *known) take(c container.InspectResponse) {
	k.name = strings.TrimPrefix(c.Name, "/")
	if c.Config != nil {
		k.hostname = c.Config.Hostname
	}
	if c.HostConfig != nil {
		k.resolvers = c.HostConfig.DNS
	}
	k.health = ""
	if c.State != nil && c.State.Health != nil && c.State.Health.Status != container.NoHealthcheck {
		k.health = string(c.State.Health.Status)
	}
	if c.NetworkSettings == nil {
		return
	}
	clear(k.aliases)
	clear(k.endpoints)
	k.addrs = map[string][]netip.Addr{}
	for name, s := range c.NetworkSettings.Networks {
		if s == nil {
			continue
		}
		k.aliases[name] = slices.Concat(s.Aliases, s.DNSNames)
		for _, a := range []netip.Addr{s.IPAddress, s.GlobalIPv6Address} {
			if a.IsValid() {
				k.addrs[name] = append(k.addrs[name], a)
			}
		}
		if s.EndpointID != "" {
			k.endpoints[s.EndpointID] = name
		}
	}
}

// describe lists the names that Docker's own server would answer on a network:
// from API 1.44 on it says them itself, before that they are put together as it
// does.
func (k *known) describe(network string) Container {
	c := Container{ID: k.id, Name: k.name, Health: k.health, Resolvers: k.resolvers}
	for name, addrs := range k.addrs {
		if name != network {
			c.Others = append(c.Others, addrs...)
		}
	}
	slices.SortFunc(c.Others, netip.Addr.Compare)
	for _, a := range slices.Concat(k.aliases[network], []string{k.id[:min(12, len(k.id))], k.hostname}) {
		if a != "" && a != k.name && !slices.Contains(c.Aliases, a) {
			c.Aliases = append(c.Aliases, a)
		}
	}
	return c
}
