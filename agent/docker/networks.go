package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weft-net/weft/discovery/pace"
)

// driverName is ours, of the network driver and of the IPAM driver.
const driverName = "weft"

// ourLabel marks the Docker networks that we made, and may remove.
const ourLabel = "weft"

// wanted is what the loop watches of the cluster: which networks there are, and
// which have an object here.
type wanted struct {
	networks map[string]bool // id, and whether it is being deleted
	objects  map[string]string
	read     bool
	member   bool
}

func wantedOf(a Agent) wanted {
	c, err := a.Cluster()
	w := wanted{networks: map[string]bool{}, objects: c.Objects, read: c.Read, member: err == nil}
	for _, n := range c.Networks {
		w.networks[n.ID] = n.Deleting
	}
	return w
}

func (w wanted) equal(o wanted) bool {
	return w.member == o.member && w.read == o.read && maps.Equal(w.networks, o.networks) && maps.Equal(w.objects, o.objects)
}

// change waits until nobody else changes the engine's networks; changed ends it.
func (e *engine) change(ctx context.Context) error {
	select {
	case e.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the engine is busy with its networks: %w", ctx.Err())
	}
}

func (e *engine) changed() { <-e.changing }

// sync makes a Docker network for each network of the cluster, and removes
// those of networks that were deleted. Only an engine that does not answer is
// an error: one network that cannot be made stops no other, and then it is not
// done.
func (e *engine) sync(ctx context.Context) (done bool, err error) {
	if err := e.change(ctx); err != nil {
		return false, err
	}
	defer e.changed()
	api := e.client()
	c, refused := e.agent.Cluster()
	list, err := listNetworks(ctx, api)
	if err != nil {
		return false, err
	}
	if refused != nil {
		// No member, or about to be none: nothing is wanted, and what is there is left
		// alone, since what runs on it goes on.
		e.mu.Lock()
		defer e.mu.Unlock()
		e.problems = stranded(list)
		return true, nil
	}
	s := syncing{engine: e, api: api, cluster: c, list: list, objects: map[string]string{}, served: map[string]bool{}, declined: map[string]error{}}
	inDoubt := s.forgetVanished()
	for _, n := range list {
		switch {
		case n.Driver == driverName:
			s.claim(ctx, n)
		case n.IPAM.Driver == driverName && !n.ConfigOnly: // which has no addresses
			s.borrowed(n)
		}
	}
	s.duplicates(ctx)
	for _, n := range c.Networks {
		if !n.Deleting {
			s.ensure(ctx, n)
		}
	}
	e.served = s.served
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range s.problems {
		if !slices.Contains(e.problems, p) {
			e.log.Warn("docker networks: " + p)
		}
	}
	e.problems, e.objects, e.declined = s.problems, s.objects, s.declined
	return len(s.problems) == 0 && !inDoubt && !s.later, nil
}

// stranded names the Docker networks of ours on a host that is no member.
func stranded(list []network.Summary) []string {
	var names []string
	for _, n := range list {
		if n.Driver == driverName {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []string{"docker has networks of a cluster that this host is not in: " + strings.Join(names, ", ")}
}

// syncing is one run of sync.
type syncing struct {
	*engine
	api      *client.Client // of the whole run: the engine may go away meanwhile
	cluster  Cluster
	list     []network.Summary
	objects  map[string]string // those of ours
	served   map[string]bool   // Network.ID of those that have their Docker network
	declined map[string]error  // declared ones that the cluster will not take
	problems []string
	later    bool // something is to be looked at again
}

func (s *syncing) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// forgetVanished drops the objects that went away while nobody looked: those
// that no list has shown for a while. Docker asks for a network before it lists
// it. It returns whether another list is needed to know.
func (s *syncing) forgetVanished() (inDoubt bool) {
	before := s.vanished
	s.vanished = map[string]time.Time{}
	all := maps.Clone(s.cluster.Objects)
	maps.Copy(all, s.cluster.Declared)
	for id := range all {
		if slices.ContainsFunc(s.list, func(n network.Summary) bool { return n.ID == id }) {
			continue
		}
		since, ok := before[id]
		if !ok {
			since = time.Now()
		}
		if time.Since(since) < syncAgain {
			s.vanished[id], inDoubt = since, true
		} else if err := s.agent.Drop(id); err != nil {
			s.log.Warn("docker network not forgotten", "id", id, "err", err)
		}
	}
	return inDoubt
}

// claim looks at one Docker network with our driver: it stands for a network of
// the cluster, or for one that was deleted, or for none.
func (s *syncing) claim(ctx context.Context, n network.Summary) {
	id, known := s.cluster.Objects[n.ID]
	if _, there := s.cluster.byID(id); there {
		s.objects[n.ID] = n.Name
		return
	}
	if _, declared := s.cluster.Declared[n.ID]; declared && !known {
		s.spread(ctx, n)
		return
	}
	if !known {
		// It is of an earlier membership, or somebody is just making it.
		if of, ok := s.alike(n); ok {
			if err := s.agent.Adopt(n.ID, of.ID); err == nil {
				s.log.Info("docker network adopted", "network", of.Name, "name", n.Name)
				s.objects[n.ID] = n.Name
				return
			}
		}
	}
	switch {
	case !s.cluster.Read:
		s.objects[n.ID] = n.Name // it may be of one that we have not heard of yet
	case known || n.Labels[ourLabel] != "":
		if err := s.remove(ctx, s.api, n.ID); err != nil {
			s.problem("docker network %s of a network that was deleted is not removed: %v", n.Name, err)
			return
		}
		s.log.Info("docker network removed: its network was deleted", "name", n.Name)
	default:
		s.problem("docker network %s stands for no network of the cluster", n.Name)
	}
}

// borrowed names a network of another driver that takes our addresses. Its
// driver is not us, so it cannot be refused: Docker asks for the addresses alone,
// and does not say who is going to have them.
func (s *syncing) borrowed(n network.Summary) {
	s.problem("docker network %s takes addresses of the cluster for driver %s: what is on it reaches nobody, and its route may cut this host off from its own containers", n.Name, n.Driver)
}

// alike finds the network that a Docker network must have been made for.
func (s *syncing) alike(n network.Summary) (Network, bool) {
	name := cmp.Or(n.Options[networkOption], n.IPAM.Options[networkOption])
	if name == "" && n.Labels[ourLabel] != "" {
		name = n.Name
	}
	of, ok := s.cluster.named(name)
	if !ok || of.Deleting || len(n.IPAM.Config) != 1 || n.Internal != of.Internal {
		return Network{}, false
	}
	sub, ok := of.subnet4()
	return of, ok && n.IPAM.Config[0].Subnet == sub.CIDR
}

// ensure makes the Docker network of a network, unless there is one or the name
// is taken by somebody else's.
func (s *syncing) ensure(ctx context.Context, n Network) {
	for _, have := range s.list {
		if have.Name != n.Name && (have.Driver != driverName || !strings.EqualFold(have.Name, n.Name)) {
			continue
		}
		switch _, ours := s.objects[have.ID]; {
		case ours:
			s.served[n.ID] = true
		case have.Driver == driverName:
			s.later = true // it is of one that was deleted, and about to be removed, or claim has named it
		default:
			s.problem("docker has a network %s of its own (driver %s): the cluster's is not usable by containers of this host", n.Name, have.Driver)
		}
		return
	}
	id, err := s.make(ctx, n)
	if err != nil {
		s.problem("docker network %s cannot be made: %v", n.Name, err)
		return
	}
	s.made(n, id)
}

// made notes a Docker network that was made, and says so: one that was there before
// was taken from this engine alone.
func (s *syncing) made(n Network, id string) {
	s.objects[id], s.served[n.ID] = n.Name, true
	if s.engine.served[n.ID] {
		s.log.Warn("docker network made again: it was removed on this host alone, and is the cluster's",
			"network", n.Name, "hint", "agentctl network rm "+n.Name+" # removes it everywhere")
		return
	}
	s.log.Info("docker network made", "network", n.Name, "id", id)
}

// make makes the Docker network of a network as a user would, without options of
// ours, so that a compose file that declares it finds it as declared. Only when
// another network has the same subnet do options say which one is meant.
func (s *syncing) make(ctx context.Context, n Network) (string, error) {
	sub, ok := n.subnet4()
	if !ok {
		return "", errors.New("it has no IPv4 subnet")
	}
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	labels, options := asDeclared(n)
	var poolOptions map[string]string
	if len(s.cluster.with(sub.CIDR.String())) > 1 {
		options[networkOption] = n.Name
		poolOptions = map[string]string{networkOption: n.Name}
	}
	made, err := s.api.NetworkCreate(ctx, n.Name, client.NetworkCreateOptions{
		Driver: driverName, Internal: n.Internal, Labels: labels, Options: options, Attachable: true,
		IPAM: &network.IPAM{
			Driver: driverName, Options: poolOptions,
			Config: []network.IPAMConfig{{Subnet: sub.CIDR, IPRange: sub.Range, Gateway: sub.Gateway, AuxAddress: sub.Aux}},
		},
	})
	return made.ID, err
}

// listNetworks returns all of an engine.
func listNetworks(ctx context.Context, c *client.Client) ([]network.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	all, err := c.NetworkList(ctx, client.NetworkListOptions{})
	return all.Items, err
}

// client is the engine's that is followed; nil: none is. It may be another one, or
// none, at the next call.
func (e *engine) client() *client.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.api
}

// remove takes a Docker network away, and the containers off it first: their
// endpoints are gone already. Docker counts an endpoint for a moment longer than it
// has it, so a refusal may be over soon.
func (e *engine) remove(ctx context.Context, c *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	n, err := inspectNetwork(ctx, c, id)
	if errdefs.IsNotFound(err) {
		return nil // an earlier try removed it, and its answer was lost
	}
	if err != nil {
		return err
	}
	for cid, r := range n.Containers {
		_, err := c.NetworkDisconnect(ctx, id, client.NetworkDisconnectOptions{Container: cid, Force: true})
		e.log.Info("container taken off a network that was deleted", "container", r.Name, "network", n.Name, "err", err)
	}
	_, err = c.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	return err
}

// clearFor is how long networks are tried to be removed when the host leaves.
const clearFor = 3 * time.Second

// clear removes every Docker network that we made or know. An engine that hangs
// does not keep the host from leaving.
func (e *engine) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clearFor)
	defer cancel()
	if err := e.change(ctx); err != nil {
		return err
	}
	defer e.changed()
	c := e.client()
	if c == nil {
		return nil
	}
	list, err := listNetworks(ctx, c)
	if err != nil {
		return err
	}
	e.mu.Lock()
	ours := e.objects
	e.mu.Unlock()
	list = slices.DeleteFunc(list, func(n network.Summary) bool {
		_, known := ours[n.ID]
		return n.Driver != driverName || !known && n.Labels[ourLabel] == ""
	})
	refused := map[string]error{} // why, by id
	for {
		list = slices.DeleteFunc(list, func(n network.Summary) bool {
			err := e.remove(ctx, c, n.ID)
			if refused[n.ID] == nil || ctx.Err() == nil { // that the time is over tells less
				refused[n.ID] = err
			}
			return err == nil
		})
		if len(list) == 0 || ctx.Err() != nil {
			break
		}
		pace.Sleep(ctx, syncSoon)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.objects = nil
	var errs []error
	for _, n := range list {
		errs = append(errs, fmt.Errorf("docker network %s: %w", n.Name, refused[n.ID]))
	}
	return errors.Join(errs...)
}

func inspectNetwork(ctx context.Context, c *client.Client, id string) (network.Inspect, error) {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	r, err := c.NetworkInspect(ctx, id, client.NetworkInspectOptions{})
	return r.Network, err
}
