// Package resolvers keeps how the containers of this host ask for names: the
// servers that they ask instead of a gateway, the host's search domains, whether
// 169.254.53.53 is an address of this host, and the resolv.conf files of named
// namespaces. It answers no question: package dns does.
package resolvers

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/dns"
)

// Config says where to look.
type Config struct {
	ResolvConf string // of the host, as resolv.conf(5)
	// Address reports whether 169.254.53.53 is to be an address of this host; nil:
	// never. It is asked at each Look.
	Address func() bool
	Changed func() // called, with nothing locked, when State is another
}

// Resolvers is what this host knows now of how its containers ask.
type Resolvers struct {
	cfg Config

	mu         sync.Mutex
	bySource   map[string][]netip.Addr // servers, by who has containers ask them
	otherAddrs map[discovery.EndpointID][]netip.Addr
	conf       dns.ResolvConf // of the host, when it was last read
	address    bool
}

// dockerFallback are the servers that Docker asks when the host has none that a
// container could ask.
var dockerFallback = []netip.Addr{
	netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4}),
	netip.MustParseAddr("2001:4860:4860::8888"), netip.MustParseAddr("2001:4860:4860::8844"),
}

// hostSource is the source of the host's own servers, beside those of containers.
const hostSource = "host"

// New looks at the host once.
func New(cfg Config) *Resolvers {
	r := &Resolvers{cfg: cfg, bySource: map[string][]netip.Addr{}, otherAddrs: map[discovery.EndpointID][]netip.Addr{}}
	r.Look()
	return r
}

// State returns what the plan needs.
func (r *Resolvers) State() plan.ResolverState {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := plan.ResolverState{Search: r.conf.Search, Address: r.address, OtherAddrs: maps.Clone(r.otherAddrs)}
	for _, addrs := range r.bySource {
		st.Resolvers = append(st.Resolvers, addrs...)
	}
	slices.SortFunc(st.Resolvers, netip.Addr.Compare)
	st.Resolvers = slices.Compact(st.Resolvers)
	return st
}

// Set notes which servers the containers of a source ask, so that this host answers
// in their place. An empty list removes what the source said before.
func (r *Resolvers) Set(source string, addrs []netip.Addr) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() })
	r.change(func() bool { return replace(r.bySource, source, addrs) })
}

// SetOtherAddrs notes which addresses an endpoint's sandbox has on networks that
// are not weft's. An empty list removes them.
func (r *Resolvers) SetOtherAddrs(id discovery.EndpointID, addrs []netip.Addr) {
	r.change(func() bool { return replace(r.otherAddrs, id, slices.Clone(addrs)) })
}

// replace puts addresses in the place of those that a key has, and reports whether
// they are others.
func replace[K comparable](all map[K][]netip.Addr, key K, addrs []netip.Addr) bool {
	if slices.Equal(all[key], addrs) {
		return false
	}
	if len(addrs) == 0 {
		delete(all, key)
	} else {
		all[key] = addrs
	}
	return true
}

// change runs do under the lock, and tells of what it changed.
func (r *Resolvers) change(do func() bool) {
	r.mu.Lock()
	changed := do()
	r.mu.Unlock()
	if changed && r.cfg.Changed != nil {
		r.cfg.Changed()
	}
}

// Remember copies what an earlier membership of this host was told of containers:
// an engine tells it once for each container.
func (r *Resolvers) Remember(old *Resolvers) {
	old.mu.Lock()
	servers, others := maps.Clone(old.bySource), maps.Clone(old.otherAddrs)
	old.mu.Unlock()
	delete(servers, hostSource) // which New has read again
	for source, addrs := range servers {
		r.Set(source, addrs)
	}
	for id, addrs := range others {
		r.SetOtherAddrs(id, addrs)
	}
}

// Search is the search list of the host's resolv.conf.
func (r *Resolvers) Search() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.conf.Search)
}

// Look reads what may change on the host: its servers, its search domains, and
// whether an engine sends containers to the address. A file that cannot be read, as
// while it is being replaced, changes nothing.
func (r *Resolvers) Look() {
	conf, err := dns.ReadResolvConf(r.cfg.ResolvConf)
	address := r.cfg.Address != nil && r.cfg.Address()
	r.change(func() bool {
		if err != nil {
			conf = r.conf
		}
		same := address == r.address && slices.Equal(conf.Search, r.conf.Search)
		r.address, r.conf = address, conf
		return !same
	})
	r.Set(hostSource, slices.Concat(withoutZones(conf.Servers), Servers(dns.StubResolvConf), dockerFallback))
}
