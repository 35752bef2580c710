package docker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/pace"
)

// A network that a user of the engine makes is to be the cluster's. While Docker
// makes it the driver hears its subnet and settings, never its name: so it is checked
// and remembered (declare), and the cluster gets it when the engine lists it
// (syncing.create). The id of its pool is its subnet, since the network of the
// cluster has no id yet.

// mtuOption is what Docker's own drivers call the option mtu.
const mtuOption = "com.docker.network.driver.mtu"

// settings are the driver options of a Docker network as the cluster has them. The
// word that was used for the MTU is kept as a label (summarized), so that the Docker
// networks of other hosts have the same and a compose file finds them as declared.
func settings(generic map[string]string) map[string]string {
	out := maps.Clone(generic)
	delete(out, networkOption)
	if mtu, ok := out[mtuOption]; ok {
		delete(out, mtuOption)
		out["mtu"] = mtu
	}
	return out
}

// line is the line that makes a Docker network as was asked, but for what cannot be
// had: for a network of the cluster, or for a new one when that is zero.
func (q networkRequest) line(n Network) string {
	if n.Name != "" {
		return byHand(n)
	}
	line := byHand(Network{Internal: q.Options.Internal})
	var options strings.Builder
	generic := settings(q.Options.Generic)
	for _, k := range slices.Sorted(maps.Keys(generic)) {
		options.WriteString(" -o " + k + "=" + generic[k])
	}
	return strings.TrimSuffix(line, " NAME") + options.String() + " NAME"
}

// asked is the network that a request asks for; its name is not in it.
func (q networkRequest) asked() (Network, error) {
	data := q.IPv4Data[0]
	cidr, err := netip.ParsePrefix(data.Pool)
	if err != nil {
		return Network{}, api.Errorf(api.KindMisuse, "%q is no subnet", data.Pool)
	}
	sub := Subnet{CIDR: cidr.Masked(), Aux: map[string]netip.Addr{}}
	if gateway, err := netip.ParsePrefix(data.Gateway); err == nil {
		sub.Gateway = gateway.Addr()
	}
	for name, text := range data.AuxAddresses {
		a, err := netip.ParsePrefix(text)
		if err != nil {
			return Network{}, api.Errorf(api.KindMisuse, "--aux-address %s=%s is no address", name, text)
		}
		sub.Aux[name] = a.Addr()
	}
	return Network{Internal: q.Options.Internal, Options: settings(q.Options.Generic), Subnets: []Subnet{sub}}, nil
}

// declare checks a network that the cluster is to get, and remembers it.
func (d *driver) declare(q networkRequest) error {
	n, err := q.asked()
	if err != nil {
		return err
	}
	sub, err := d.agent.Lay(n, nil)
	if err != nil {
		// Options are what may be wrong once a pool was given: the line is without them.
		return refusal(err, byHand(Network{Internal: n.Internal}))
	}
	if err := d.agent.Declare(q.NetworkID, sub.CIDR); err != nil {
		return err
	}
	d.withdraw(sub.CIDR.String())
	return nil
}

// refusal is an error of the agent's about what was asked for, with the line that works
// instead.
func refusal(err error, line string) error {
	if !final(err) {
		return err // the same line works later
	}
	return api.Errorf(api.KindOf(err), "%v", err).WithHint("%s", line)
}

// final reports whether an error is about what was asked for.
func final(err error) bool {
	kind := api.KindOf(err)
	return kind == api.KindMisuse || kind == api.KindConflict
}

const (
	offeredFor = time.Minute // far longer than Docker needs to make a network of a pool
	mostOffers = 64          // at once
)

// newPool gives a pool for a network that the cluster does not have.
func (d *driver) newPool(c Cluster, q poolRequest) (poolAnswer, error) {
	line := byHand(Network{})
	var want Subnet
	var err error
	if q.Pool != "" {
		if want.CIDR, err = netip.ParsePrefix(q.Pool); err != nil {
			return poolAnswer{}, api.Errorf(api.KindMisuse, "--subnet %s is no subnet", q.Pool).WithHint("%s", line)
		}
	}
	if q.SubPool != "" {
		if want.Range, err = netip.ParsePrefix(q.SubPool); err != nil {
			return poolAnswer{}, api.Errorf(api.KindMisuse, "--ip-range %s is no subnet", q.SubPool).WithHint("%s", line)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.taken(c, q.Pool)
	if len(taken) >= mostOffers {
		return poolAnswer{}, api.Errorf(api.KindConflict, "Docker asks again and again for another subnet: this host reaches all that the cluster has").
			WithHint("docker network create -d weft --ipam-driver weft --subnet CIDR NAME # one that this host does not reach otherwise")
	}
	for _, p := range taken {
		if want.CIDR.IsValid() && p.Overlaps(want.CIDR) {
			return poolAnswer{}, api.Errorf(api.KindConflict, "--subnet %s overlaps %s of a Docker network that is not in the cluster yet", want.CIDR, p).
				WithHint("%s", line)
		}
	}
	sub, err := d.agent.Lay(Network{Subnets: []Subnet{want}}, taken)
	if err != nil {
		return poolAnswer{}, refusal(err, line)
	}
	d.offered[sub.CIDR] = time.Now()
	return poolAnswer{PoolID: sub.CIDR.String(), Pool: sub.CIDR.String(), Data: map[string]string{}}, nil
}

// taken are the subnets of networks that Docker has, or is making, and that the
// cluster does not have yet; but for one that is asked for again. mu is held.
func (d *driver) taken(c Cluster, again string) (out []netip.Prefix) {
	for p, since := range d.offered {
		switch {
		case time.Since(since) > offeredFor:
			delete(d.offered, p)
		case p.String() != again:
			out = append(out, p)
		}
	}
	for id, subnet := range c.Declared {
		if p, err := netip.ParsePrefix(subnet); err == nil && c.Objects[id] == "" {
			out = append(out, p)
		}
	}
	return out
}

// offer is the subnet of a pool that Docker is making a network of.
func (d *driver) offer(pool string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(pool)
	if err != nil {
		return p, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.offered[p]
	return p, ok
}

// withdraw ends an offer; an unknown one is no error.
func (d *driver) withdraw(pool string) {
	p, err := netip.ParsePrefix(pool)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.offered, p)
}

// addressOfOffer answers for a network that is being made: no endpoint is on it, so
// what is asked for is its gateway or an --aux-address. Neither is leased.
func addressOfOffer(sub netip.Prefix, want netip.Addr, q addressRequest) (addressAnswer, error) {
	if q.Options[typeOption] == gatewayType && !want.IsValid() {
		want = sub.Masked().Addr().Next()
	}
	if !want.IsValid() {
		return addressAnswer{}, api.Errorf(api.KindConflict, "Docker is still making the network of %s", sub).WithHint("docker network ls")
	}
	return addressOf(Subnet{CIDR: sub}, want), nil
}

// pool finds the network of a pool: its id is the network's, or the subnet that the
// network was made with.
func (c Cluster) pool(id string) (Network, bool) {
	if n, ok := c.byID(id); ok {
		return n, true
	}
	for dockerID, subnet := range c.Declared {
		if subnet != id {
			continue
		}
		if n, ok := c.byID(c.Objects[dockerID]); ok {
			return n, true
		}
	}
	return Network{}, false
}

// waiting is the Docker network of a pool that the cluster is about to get; empty: there
// is none.
func (c Cluster) waiting(pool string) (dockerID string) {
	for id, subnet := range c.Declared {
		if subnet == pool && c.Objects[id] == "" {
			return id
		}
	}
	return ""
}

// madeWithin is how long a container waits for the cluster to get its network:
// docker compose starts it a moment after the network.
const madeWithin = 8 * time.Second

// awaitNetwork waits until the cluster has the network of a pool.
func (d *driver) awaitNetwork(ctx context.Context, pool string) (Network, error) {
	ctx, cancel := context.WithTimeout(ctx, madeWithin)
	defer cancel()
	for {
		c, err := d.agent.Cluster()
		if err != nil {
			return Network{}, err
		}
		if n, ok := c.pool(pool); ok {
			return n, nil
		}
		id := c.waiting(pool)
		if id == "" {
			return Network{}, api.Errorf(api.KindNotFound, "the network of this Docker network was deleted from the cluster").
				WithHint("agentctl network ls")
		}
		if err := d.refusedBy(id); err != nil {
			return Network{}, err
		}
		if !pace.Sleep(ctx, 20*time.Millisecond) {
			return Network{}, api.Errorf(api.KindTimeout, "the cluster has not got this Docker network yet").
				WithHint("agentctl status # its line docker says why")
		}
	}
}

// spread gives the cluster a network that was declared here.
func (s *syncing) spread(ctx context.Context, n network.Summary) {
	ctx, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	err := s.agent.Create(ctx, n.ID, summarized(n))
	switch {
	case err == nil:
		s.objects[n.ID] = n.Name
		s.log.Info("docker network made for the whole cluster", "network", n.Name, "id", n.ID)
	case errors.Is(err, ErrDiffers) && len(n.IPAM.Config) == 1:
		// Another host was first: this one gets what the cluster has. No container is
		// on it, since none got an address.
		if _, gone := s.api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); gone != nil {
			s.problem("docker network %s has the subnet %s, and the cluster's of that name has not: it cannot be removed: %v", n.Name, n.IPAM.Config[0].Subnet, gone)
			return
		}
		s.later = true
		s.log.Warn("docker network replaced by the cluster's, which another host made first", "network", n.Name, "subnet", n.IPAM.Config[0].Subnet, "err", err)
	default:
		if final(err) {
			s.declined[n.ID] = api.Errorf(api.KindOf(err), "docker network %s is not in the cluster: %v", n.Name, err).
				WithHint("docker network rm %s # then: %s", n.Name, byHand(Network{Internal: n.Internal}))
		}
		s.problem("docker network %s is not in the cluster: %v", n.Name, err)
	}
}

// summarized is a Docker network as the cluster is to have it.
func summarized(n network.Summary) Network {
	out := Network{Name: n.Name, Internal: n.Internal, Labels: maps.Clone(n.Labels), Options: settings(n.Options)}
	delete(out.Labels, ourLabel)
	if mtu, ok := n.Options[mtuOption]; ok {
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[mtuOption] = mtu
	}
	for _, c := range n.IPAM.Config {
		out.Subnets = append(out.Subnets, Subnet{CIDR: c.Subnet, Gateway: c.Gateway, Range: c.IPRange, Aux: c.AuxAddress})
	}
	return out
}

// asDeclared are the labels and driver options of the Docker network that the agent
// makes for a network: those that a user's has.
func asDeclared(n Network) (labels, options map[string]string) {
	labels, options = map[string]string{ourLabel: "1"}, map[string]string{}
	maps.Copy(labels, n.Labels)
	maps.Copy(options, n.Options)
	if mtu, ok := labels[mtuOption]; ok {
		delete(labels, mtuOption)
		if options["mtu"] == mtu {
			delete(options, "mtu")
			options[mtuOption] = mtu
		}
	}
	return labels, options
}

// duplicates removes a network that the agent made when a user made one of the name
// at the same moment: engines before 23.0 take both, and then neither name is usable.
func (s *syncing) duplicates(ctx context.Context) {
	for _, n := range s.list {
		if s.objects[n.ID] == "" || n.Labels[ourLabel] == "" {
			continue
		}
		twin := slices.ContainsFunc(s.list, func(o network.Summary) bool {
			return o.ID != n.ID && o.Name == n.Name && s.objects[o.ID] != "" && o.Labels[ourLabel] == ""
		})
		if !twin {
			continue
		}
		if err := s.agent.Drop(n.ID); err != nil {
			s.problem("docker has two networks %s: %v", n.Name, err)
			continue
		}
		if _, err := s.api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil {
			s.problem("docker has two networks %s, and one cannot be removed: %v", n.Name, err)
			continue
		}
		delete(s.objects, n.ID)
		s.log.Info("docker network removed: a user made it at the same moment", "network", n.Name, "id", n.ID)
	}
}
