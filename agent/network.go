package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// reservedNames would hide something that Docker or our names give a meaning.
var reservedNames = []string{"host", "none", "bridge", "default", "_all"}

// NetworkCreate implements api.Service. It returns when this host knows the
// network: an attach that follows finds it.
func (a *Agent) NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.NetworkCreateResult{}, err
	}
	what := "network create " + r.Name
	spec, warnings, err := s.checkNetwork(r)
	if err != nil {
		return api.NetworkCreateResult{}, s.explain(what, err)
	}
	n, err := s.pool.CreateNetwork(ctx, spec)
	if err != nil {
		return api.NetworkCreateResult{}, s.explain(what, err)
	}
	s.know(n)
	s.setConflists()
	s.log.Info("network created", "network", n.Name, "vni", n.VNI, "subnet", subnets(n))
	return api.NetworkCreateResult{Network: s.inspect(n), Warnings: warnings}, nil
}

// checkNetwork turns a request into what the pool creates, or says what is
// wrong with it.
func (s *session) checkNetwork(r api.NetworkCreateRequest) (pool.NetworkSpec, []string, error) {
	spec := pool.NetworkSpec{
		Name: strings.ToLower(r.Name), Internal: r.Internal, Driver: or(r.Driver, "weft"),
		Labels: r.Labels, Options: map[string]string{}, By: s.host.Name, Avoid: s.avoidEverywhere(),
		Subnets: r.Subnets, Gateways: r.Gateways, Ranges: r.IPRanges, Aux: r.AuxAddresses,
	}
	if i := slices.IndexFunc(r.Subnets, func(s string) bool { return strings.Contains(s, ":") }); i >= 0 {
		return spec, nil, api.Errorf(api.KindMisuse, "--subnet %s: this release has IPv4 subnets only", r.Subnets[i])
	}
	if !validLabel(r.Name) {
		return spec, nil, api.Errorf(api.KindMisuse, "%q is no DNS label: letters, digits, - and _, at most 63", r.Name)
	}
	if slices.Contains(reservedNames, spec.Name) {
		return spec, nil, api.Errorf(api.KindMisuse, "%q has a meaning of its own, choose another name", r.Name)
	}
	if spec.Driver != "weft" {
		return spec, nil, api.Errorf(api.KindMisuse, "driver %q: this release has only weft", r.Driver)
	}
	if err := readOptions(r.Options, &spec); err != nil {
		return spec, nil, err
	}
	return spec, append(publicSubnets(r.Subnets), s.tooLarge(spec.MTU)...), nil
}

// readOptions reads the driver options that this release has.
func readOptions(options map[string]string, spec *pool.NetworkSpec) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		v := options[k]
		switch k {
		case "mtu":
			mtu, err := strconv.Atoi(v)
			if err != nil || mtu < minMTU || mtu > 65535-overheadIPv6 {
				return api.Errorf(api.KindMisuse, "-o mtu=%s: give the inner MTU in bytes, %d to %d", v, minMTU, 65535-overheadIPv6)
			}
			spec.MTU = mtu
		case "host_access":
			if !slices.Contains([]string{"none", "local", "full"}, v) {
				return api.Errorf(api.KindMisuse, "-o host_access=%s: give none, local or full", v)
			}
		default:
			return api.Errorf(api.KindMisuse, "-o %s: unknown option; this release has mtu and host_access", k)
		}
		spec.Options[k] = v
	}
	return nil
}

// avoidEverywhere is what no automatic subnet may overlap, with the host it
// comes from.
func (s *session) avoidEverywhere() []pool.Avoid {
	var out []pool.Avoid
	for _, m := range s.directory.View().Members {
		for _, p := range m.Header.Avoid {
			out = append(out, pool.Avoid{Prefix: p, Host: m.Name})
		}
	}
	return out
}

// know takes a network that this host just made without waiting for the watch,
// which may be in its pause after the store was away.
func (s *session) know(n discovery.Network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.networks, func(m discovery.Network) bool { return m.ID == n.ID }) {
		return
	}
	s.networks = append(slices.Clone(s.networks), n)
	discovery.SortNetworks(s.networks)
}

// readNetworks takes the networks that the pool has, so that a host that just
// became a member knows them before its watch has begun.
func (s *session) readNetworks(ctx context.Context) error {
	all, err := s.pool.Networks(ctx)
	for _, n := range all {
		s.know(n)
	}
	return err
}

// Networks implements api.Service.
func (a *Agent) Networks(context.Context) ([]api.Network, error) {
	s, err := a.requireMember()
	if err != nil {
		return nil, err
	}
	out := []api.Network{}
	for _, n := range s.networkList() {
		out = append(out, s.inspect(n))
	}
	return out, nil
}

// Network implements api.Service.
func (a *Agent) Network(ctx context.Context, nameOrID string) (api.Network, error) {
	s, err := a.requireMember()
	if err != nil {
		return api.Network{}, err
	}
	n, ok := s.findNetwork(ctx, nameOrID)
	if !ok {
		return api.Network{}, noNetwork(nameOrID)
	}
	return s.inspect(n), nil
}

// inspect shows a network with the endpoints of all hosts.
func (s *session) inspect(n discovery.Network) api.Network {
	out := api.Network{
		Name: n.Name, ID: n.ID.String(), Created: n.Created, Scope: "global", Driver: n.Driver,
		Internal: n.Internal, Labels: orEmpty(n.Labels), Options: orEmpty(n.Options),
		IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{}}, VNI: n.VNI, MTU: s.mtu(n), State: string(n.State),
		Containers: map[string]api.Container{},
	}
	for _, sub := range n.Subnets {
		c := api.IPAMConfig{Subnet: sub.CIDR.String(), Gateway: sub.Gateway.String()}
		if sub.Range.IsValid() {
			c.IPRange = sub.Range.String()
		}
		for name, a := range sub.Aux {
			if c.AuxiliaryAddresses == nil {
				c.AuxiliaryAddresses = map[string]string{}
			}
			c.AuxiliaryAddresses[name] = a.String()
		}
		out.EnableIPv6 = out.EnableIPv6 || sub.CIDR.Addr().Is6()
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	v := s.directory.View()
	for _, r := range v.Endpoints {
		if r.Network != n.ID {
			continue
		}
		c := api.Container{Name: r.Name, EndpointID: r.ID.String(), MacAddress: r.MAC.String(), Host: memberName(v, r.Host)}
		for _, a := range r.Addrs() {
			if a.Is4() {
				c.IPv4Address = withLength(n, a)
			} else {
				c.IPv6Address = withLength(n, a)
			}
		}
		out.Containers[r.ID.String()] = c
	}
	return out
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// withLength writes an address with the length of its subnet, as Docker does.
func withLength(n discovery.Network, a netip.Addr) string {
	sub, ok := n.Covering(a)
	if !ok {
		return a.String()
	}
	return netip.PrefixFrom(a, sub.CIDR.Bits()).String()
}

func memberName(v discovery.View, id discovery.HostID) string {
	return or(memberOf(v, id).Name, id.String())
}

// memberOf is the member of that id, a zero one when it is not known.
func memberOf(v discovery.View, id discovery.HostID) discovery.Member {
	i := slices.IndexFunc(v.Members, func(m discovery.Member) bool { return m.ID == id })
	if i < 0 {
		return discovery.Member{}
	}
	return v.Members[i]
}

// NetworkRemove implements api.Service: refused while an endpoint is on the
// network, alive or suspended, unless forced.
func (a *Agent) NetworkRemove(ctx context.Context, nameOrID string, force bool) error {
	s, err := a.requireMember()
	if err != nil {
		return err
	}
	n, ok := s.findNetwork(ctx, nameOrID)
	if !ok {
		return noNetwork(nameOrID)
	}
	what := "network rm " + n.Name
	v := s.directory.View()
	if users := endpointsOn(v, n.ID); len(users) > 0 && !force {
		return api.Errorf(api.KindConflict, "%s: in use by %s", what, strings.Join(users, ", ")).
			WithHint("agentctl network rm -f %s # detaches them", n.Name)
	}
	if n, err = s.pool.DeleteNetwork(ctx, n.Name, s.host.Name, force); err != nil {
		return s.explain(what, err)
	}
	if force {
		if err := s.freeAbsent(ctx, n); err != nil {
			return s.explain(what, err)
		}
	}
	return s.explain(what, s.awaitDeleted(ctx, n))
}

// endpointsOn lists who uses a network, as "name on host". A host's own address
// is no user: it goes with the network.
func endpointsOn(v discovery.View, id discovery.NetworkID) []string {
	var out []string
	for _, r := range v.Endpoints {
		if r.Network == id && r.Runtime != runtimeHost {
			out = append(out, fmt.Sprintf("%s on %s", r.Name, memberName(v, r.Host)))
		}
	}
	return out
}

// awaitDeleted waits until the network is gone everywhere in the pool. Every
// host gives its blocks back first; a host that is away may keep the network in
// state deleting, which is no failure.
func (s *session) awaitDeleted(ctx context.Context, n discovery.Network) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		s.poke()
		if _, ok := s.network(n.ID.String()); !ok {
			return nil
		}
		s.finishDeletions(ctx)
		select {
		case <-ctx.Done():
			if users := endpointsOn(s.directory.View(), n.ID); len(users) > 0 {
				return api.Errorf(api.KindConflict, "marked as deleting, but in use by %s", strings.Join(users, ", ")).
					WithHint("agentctl network rm -f %s # detaches them", n.Name)
			}
			return api.Errorf(api.KindTimeout, "marked as deleting, but a host still holds addresses of it").
				WithHint("agentctl network rm -f %s # frees those of hosts that are away", n.Name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// finishDeletions does this host's part for every network that is being
// deleted, and the last step if it is the one that sees it empty.
func (s *session) finishDeletions(ctx context.Context) {
	for _, n := range s.networkList() {
		if n.State != discovery.NetworkDeleting {
			continue
		}
		if s.emptied(ctx, n) {
			if _, err := s.pool.FinishDelete(ctx, n, s.host.Name); err != nil && ctx.Err() == nil {
				s.log.Debug("network not deleted yet", "network", n.Name, "err", err)
			}
		}
	}
}

// emptied gives back what this host holds of a network; false while an endpoint
// is on it that nobody forced off.
func (s *session) emptied(ctx context.Context, n discovery.Network) bool {
	for _, l := range s.journal.all() {
		if l.Endpoint.Network != n.ID {
			continue
		}
		if !n.Force && !l.ofHost() || !s.evict(ctx, l) {
			return false
		}
	}
	s.dropNetwork(n.ID)
	return true
}

// evict detaches an endpoint because its network is deleted.
func (s *session) evict(ctx context.Context, l Local) bool {
	unlock := s.locks.lock(l.lockKey())
	defer unlock()
	if err := s.detach(ctx, l); err != nil {
		s.log.Warn("endpoint of a deleted network not removed", "endpoint", l.Endpoint.ID, "err", err)
		return false
	}
	s.log.Info("endpoint removed: its network is deleted", "endpoint", l.Endpoint.ID, "name", l.Endpoint.Name)
	return true
}

// leaveDeleted removes what this host still has of networks that were deleted
// while it was away: a person asked for that.
func (s *session) leaveDeleted(ctx context.Context) {
	s.mu.Lock()
	deleted := s.deleted
	s.mu.Unlock()
	for _, l := range s.journal.all() {
		if _, ok := deleted[l.Endpoint.Network]; ok {
			s.evict(ctx, l)
		}
	}
	for _, h := range s.leases.Blocks() {
		if _, ok := deleted[h.ID]; ok {
			s.dropNetwork(h.ID)
		}
	}
}

// dropNetwork forgets a network here: its devices go with the next pass, its
// blocks go back.
func (s *session) dropNetwork(id discovery.NetworkID) {
	s.mu.Lock()
	delete(s.used, id)
	s.mu.Unlock()
	if err := s.leases.Drop(id); err != nil {
		s.log.Warn("blocks of a deleted network not given back", "network", id, "err", err)
	}
}

// reassert writes back what a wiped or restored store lost: the cluster's
// record, networks that nobody deleted, own blocks.
func (s *session) reassert(ctx context.Context) {
	s.mu.Lock()
	lost := s.lost
	for _, since := range s.absent {
		// The folders of the pool are read one after the other: the tombstone of
		// a network may come a moment after its key has gone.
		lost = lost || time.Since(since) > 5*time.Second
	}
	s.mu.Unlock()
	if !lost && !errors.Is(s.pool.Healthy(), pool.ErrNoCluster) {
		return
	}
	err := errors.Join(
		s.pool.Reassert(ctx, s.meta(), s.poolHost(), s.networkList(), s.leases.Held()),
		s.pool.ReassertAddrs(ctx, s.poolHost(), s.networkList(), s.leases.HeldAddrs()))
	if err != nil {
		s.log.Warn("the store was wiped or restored and does not take everything back", "err", err)
		return
	}
	s.mu.Lock()
	s.lost, s.absent = false, nil
	s.mu.Unlock()
	s.log.Warn("the store was wiped or restored: the cluster's record, its networks and own blocks were written back")
}
