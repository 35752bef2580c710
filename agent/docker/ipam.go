package docker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// addressSpace is the one that all networks of the cluster are in.
const addressSpace = "weft"

// gatewayType marks the request for a network's gateway.
const gatewayType, typeOption = "com.docker.network.gateway", "RequestAddressType"

// networkOption names the network of the cluster that a Docker network is to stand
// for, as an option of the driver and of the IPAM.
const networkOption = "network"

// byHand is the line that makes a Docker network, of any NAME, for one of the
// cluster; for a zero one the line that makes a new one of the cluster. The subnet
// is given since Docker takes none of our choice that the host has a route to.
func byHand(n Network) string {
	line := "docker network create -d weft --ipam-driver weft"
	if n.Name != "" {
		line += fmt.Sprintf(" --ipam-opt network=%s -o network=%s", n.Name, n.Name)
	}
	if sub, ok := n.subnet4(); ok {
		line += " --subnet " + sub.CIDR.String()
	}
	if n.Internal {
		line += " --internal"
	}
	return line + " NAME"
}

// requestPool finds the network that a Docker network is made for. Its id is
// the pool's, so that asking again is the same pool.
func (d *driver) requestPool(_ context.Context, q poolRequest) (poolAnswer, error) {
	c, err := d.agent.Cluster()
	if err != nil {
		return poolAnswer{}, err
	}
	if q.V6 {
		return poolAnswer{}, api.Errorf(api.KindMisuse, "this release has IPv4 subnets only").WithHint("%s # leave --ipv6 out", byHand(Network{}))
	}
	for k := range q.Options {
		if k != networkOption {
			return poolAnswer{}, api.Errorf(api.KindMisuse, "--ipam-opt %s: unknown option; there is network=NAME", k).WithHint("%s", byHand(Network{}))
		}
	}
	n, sub, known, err := poolOf(c, q)
	if err != nil {
		return poolAnswer{}, err
	}
	if !known {
		return d.newPool(c, q)
	}
	if q.SubPool != "" && (!sub.Range.IsValid() || q.SubPool != sub.Range.String()) {
		return poolAnswer{}, api.Errorf(api.KindMisuse, "--ip-range %s is not that of network %s", q.SubPool, n.Name).
			WithHint("%s # leave --ip-range out; agentctl network inspect %s", byHand(n), n.Name)
	}
	if q.Pool == "" && d.askedAgain(n.ID) {
		return poolAnswer{}, api.Errorf(api.KindConflict, "%s is on this host already, and Docker would look for another subnet for ever", sub.CIDR).
			WithHint("%s", byHand(n))
	}
	return poolAnswer{PoolID: n.ID, Pool: sub.CIDR.String(), Data: map[string]string{}}, nil
}

// onceMore is far longer than Docker needs to make a network of a pool, or to
// ask for another.
const onceMore = 2 * time.Second

// askedAgain reports whether a pool of our choice was not good enough. Docker
// takes none that overlaps a route of the host, such as that of the network's
// own gateway port, and asks again without end, holding its lock. A subnet that
// the user names is not compared.
func (d *driver) askedAgain(network string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.asked[network]
	d.asked[network] = time.Now()
	return time.Since(last) < onceMore
}

// answered ends what askedAgain began.
func (d *driver) answered(network string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asked, network)
}

// releasePool has nothing to give back: a pool is a network of the cluster, or one
// that is not made yet.
func (d *driver) releasePool(_ context.Context, q addressRequest) (nothing, error) {
	d.answered(q.PoolID)
	d.withdraw(q.PoolID)
	return nothing{}, nil
}

// poolOf finds the network by its name, else by its subnet; false: the cluster has
// none of that subnet, or no subnet was asked for.
func poolOf(c Cluster, q poolRequest) (n Network, sub Subnet, known bool, err error) {
	if name := q.Options[networkOption]; name != "" {
		if n, known = c.named(name); !known {
			return n, sub, false, noNetwork(name)
		}
		sub, ok := n.subnet4()
		if !ok || q.Pool != "" && q.Pool != sub.CIDR.String() {
			return n, sub, false, api.Errorf(api.KindMisuse, "--subnet %s: network %s has %s", q.Pool, name, sub.CIDR).WithHint("%s", byHand(n))
		}
		return n, sub, true, nil
	}
	found := c.with(q.Pool)
	switch len(found) {
	case 0:
		return n, sub, false, nil
	case 1:
		sub, _ = found[0].subnet4()
		return found[0], sub, true, nil
	}
	return n, sub, false, api.Errorf(api.KindConflict, "several networks have the subnet %s: %s", q.Pool, named(found)).WithHint("%s", byHand(found[0]))
}

func noNetwork(name string) error {
	return api.Errorf(api.KindNotFound, "the cluster has no network %s", name).
		WithHint("agentctl network create %s # makes it, and the Docker network on every host", name)
}

func named(all []Network) string {
	var out []string
	for _, n := range all {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

func (c Cluster) named(name string) (Network, bool) {
	i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.Name == strings.ToLower(name) })
	if i < 0 {
		return Network{}, false
	}
	return c.Networks[i], true
}

func (c Cluster) byID(id string) (Network, bool) {
	i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.ID == id })
	if i < 0 {
		return Network{}, false
	}
	return c.Networks[i], true
}

// with returns the networks that have a subnet.
func (c Cluster) with(cidr string) []Network {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil
	}
	var out []Network
	for _, n := range c.Networks {
		if slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.CIDR == p.Masked() }) {
			out = append(out, n)
		}
	}
	return out
}

func (n Network) subnet4() (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.CIDR.Addr().Is4() {
			return s, true
		}
	}
	return Subnet{}, false
}

// requestAddress leases an address. The request does not say for whom: what
// CreateEndpoint does not take up is freed again.
func (d *driver) requestAddress(ctx context.Context, q addressRequest) (addressAnswer, error) {
	c, err := d.agent.Cluster()
	if err != nil {
		return addressAnswer{}, err
	}
	var want netip.Addr
	if q.Address != "" {
		if want, err = netip.ParseAddr(q.Address); err != nil {
			return addressAnswer{}, api.Errorf(api.KindMisuse, "%q is no address", q.Address)
		}
	}
	n, known := c.pool(q.PoolID)
	if !known {
		if sub, ok := d.offer(q.PoolID); ok {
			return addressOfOffer(sub, want, q)
		}
		if n, err = d.awaitNetwork(ctx, q.PoolID); err != nil {
			return addressAnswer{}, err
		}
	}
	sub, _ := n.subnet4()
	if q.Options[typeOption] == gatewayType {
		if want.IsValid() && want != sub.Gateway {
			return addressAnswer{}, api.Errorf(api.KindMisuse, "--gateway %s: the gateway of network %s is %s on every host", want, n.Name, sub.Gateway).
				WithHint("%s # leave --gateway out", byHand(n))
		}
		return addressOf(sub, sub.Gateway), nil
	}
	if want.IsValid() && sub.kept(want) {
		return addressOf(sub, want), nil // Docker asks so for each --aux-address
	}
	p, err := d.agent.Lease(ctx, n.ID, want)
	if err != nil {
		return addressAnswer{}, err
	}
	return addressAnswer{Address: p.String(), Data: map[string]string{}}, nil
}

func addressOf(s Subnet, a netip.Addr) addressAnswer {
	return addressAnswer{Address: netip.PrefixFrom(a, s.CIDR.Bits()).String(), Data: map[string]string{}}
}

// kept reports whether an address is one that nobody is ever given.
func (s Subnet) kept(a netip.Addr) bool {
	for _, x := range s.Aux {
		if x == a {
			return true
		}
	}
	return false
}

// releaseAddress is the last call for a container. What is gone already, the
// gateway included, is no error.
func (d *driver) releaseAddress(ctx context.Context, q addressRequest) (nothing, error) {
	a, err := netip.ParseAddr(q.Address)
	if err != nil {
		return nothing{}, api.Errorf(api.KindMisuse, "%q is no address", q.Address)
	}
	return nothing{}, d.agent.Release(ctx, q.PoolID, a)
}
