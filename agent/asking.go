package agent

import (
	"cmp"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/docker/setup"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Asking is how containers here ask for names, other than at a gateway: an
// engine's resolver asks the servers that the engine was told of.
type Asking struct {
	Resolvers []netip.Addr // those servers, sorted, without loopback ones
	Search    []string     // the host's search domains, which its containers inherit
	Address   bool         // 169.254.53.53 is an address of this host
	// Bridged are addresses that endpoints' sandboxes have on networks that are
	// not ours, and may ask from.
	Bridged map[discovery.EndpointID][]netip.Addr
}

// dockerFallback are the servers that Docker asks when the host has none that a
// container could ask.
var dockerFallback = []netip.Addr{
	netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4}),
	netip.MustParseAddr("2001:4860:4860::8888"), netip.MustParseAddr("2001:4860:4860::8844"),
}

// stubResolvConf lists the servers behind systemd-resolved's stub.
const stubResolvConf = "/run/systemd/resolve/resolv.conf"

// questions are those that this host answers although they are asked elsewhere.
func (p planner) questions() overlay.Questions {
	q := overlay.Questions{Address: p.own.Asking.Address}
	switch p.cfg.DNS.Intercept {
	case config.InterceptAll:
		q.All = true
	case config.InterceptUpstreams:
		q.Redirected = p.own.Asking.Resolvers
	}
	return q
}

// hostAddrs are this host's own addresses in a network.
func (p planner) hostAddrs(n discovery.NetworkID) (out []netip.Addr) {
	for _, l := range p.own.Locals {
		if l.Endpoint.Network == n && l.Endpoint.Runtime == runtimeHost && !p.beaten[l.Endpoint.ID] {
			out = append(out, l.Endpoint.Addrs()...)
		}
	}
	return out
}

// bridged are the sandboxes that may ask from a network that is not ours: they
// see the same names from there.
func (p planner) bridged() []dns.Client {
	var out []dns.Client
	for _, l := range p.own.Locals {
		for _, a := range p.own.Asking.Bridged[l.Endpoint.ID] {
			if i := slices.IndexFunc(out, func(c dns.Client) bool { return c.Addr == a }); i < 0 {
				out = append(out, dns.Client{Addr: a, Networks: p.networksWith(l)})
			}
		}
	}
	slices.SortFunc(out, func(a, b dns.Client) int { return a.Addr.Compare(b.Addr) })
	return out
}

// networksWith are the names of all networks of an endpoint's sandbox, sorted.
func (p planner) networksWith(one Local) []string {
	var out []string
	for _, n := range p.snap.Networks {
		for _, l := range p.own.Locals {
			if l.Endpoint.Network == n.ID && l.sandboxKey() == one.sandboxKey() {
				out = append(out, n.Name)
				break
			}
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

// hostResolvers is the source of the host's own resolvers, beside those of
// containers.
const hostResolvers = "host"

// setResolvers says which servers a source's containers ask: what they ask them
// is answered here. None takes back what the source said before.
func (s *session) setResolvers(source string, addrs []netip.Addr) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() })
	s.mu.Lock()
	before := s.resolvers[source]
	changed := !slices.Equal(before, addrs)
	if len(addrs) == 0 {
		delete(s.resolvers, source)
	} else {
		s.resolvers[source] = addrs
	}
	s.mu.Unlock()
	if changed {
		s.poke()
	}
}

// setBridged says which addresses an endpoint's sandbox has on networks that are
// not ours; none takes it back.
func (s *session) setBridged(id discovery.EndpointID, addrs []netip.Addr) {
	s.mu.Lock()
	changed := !slices.Equal(s.bridged[id], addrs)
	if len(addrs) == 0 {
		delete(s.bridged, id)
	} else {
		s.bridged[id] = slices.Clone(addrs)
	}
	s.mu.Unlock()
	if changed {
		s.poke()
	}
}

// forgetAsking takes back what a container of Docker's said of how it asks.
func (s *session) forgetAsking(l Local) {
	if l.Docker != nil {
		s.setResolvers(l.Docker.EndpointID, nil)
		s.setBridged(l.Endpoint.ID, nil)
	}
}

// rememberAsking takes over what Docker said to an earlier session: it says it of
// a container once.
func (s *session) rememberAsking(old *session) {
	old.mu.Lock()
	resolvers, bridged := maps.Clone(old.resolvers), maps.Clone(old.bridged)
	old.mu.Unlock()
	delete(resolvers, hostResolvers) // which lookAsking has read again
	for source, addrs := range resolvers {
		s.setResolvers(source, addrs)
	}
	for id, addrs := range bridged {
		s.setBridged(id, addrs)
	}
}

// lookAsking reads what may change on the host: its resolvers, its search
// domains, and whether Docker sends containers to the address.
func (s *session) lookAsking() {
	addrs := append(resolvers(s.cfg.DNS.ResolvConf), resolvers(stubResolvConf)...)
	s.setResolvers(hostResolvers, append(addrs, dockerFallback...))
	search := searchDomains(s.cfg.DNS.ResolvConf)
	address := s.cfg.DNS.Address == config.AddressOn
	if s.cfg.DNS.Address == config.AddressAuto {
		address = listed(s.cfg.Docker.DaemonJSON)
	}
	s.mu.Lock()
	changed := address != s.address || !slices.Equal(search, s.search)
	s.address, s.search = address, search
	s.mu.Unlock()
	if changed {
		s.poke()
	}
}

// listed reports whether a daemon.json sends containers to our address.
func listed(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	servers, err := setup.Servers(text)
	return err == nil && slices.Contains(servers, setup.Address)
}

// asking needs mu.
func (s *session) asking() Asking {
	a := Asking{Search: s.search, Address: s.address, Bridged: maps.Clone(s.bridged)}
	for _, addrs := range s.resolvers {
		a.Resolvers = append(a.Resolvers, addrs...)
	}
	slices.SortFunc(a.Resolvers, netip.Addr.Compare)
	a.Resolvers = slices.Compact(a.Resolvers)
	return a
}
