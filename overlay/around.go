package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Surroundings are what other programs have on this host that packets to and from
// endpoints meet.
type Surroundings struct {
	Routes  []Overlap // sorted
	Filters []ForeignFilter
}

// Interest is what Surroundings are about.
type Interest struct {
	Subnets []netip.Prefix // of all networks
	// Ways are the networks here that lead out.
	Ways      []Way
	Uplinks   []string // devices to the world
	Published bool     // some ports of the host lead to endpoints
}

// Way is a network's way out: its gateway port, and an address of each family that
// an endpoint may have.
type Way struct {
	Dev   string
	Addrs []netip.Addr
}

// ForeignFilter is a chain of another program's packet filter that drops what
// endpoints send or are sent. An accept of ours is not final there.
type ForeignFilter struct {
	Family, Table, Chain string
	Input                bool     // what the host takes in; else what it forwards
	Policy               bool     // by its policy; else by a rule
	Drops                []string // what is dropped, in words
}

// NeighbourTable is one of the kernel's, which all network namespaces share: when it
// is full, no new neighbour is spoken to.
type NeighbourTable struct {
	Name      string // arp_cache or ndisc_cache
	IPv6      bool
	Entries   int    // of all namespaces; permanent ones do not count against the limit
	Limit     int    // gc_thresh3
	Overflows uint64 // since the boot: how often it was full
}

// String is the chain as nft(8) names it.
func (f ForeignFilter) String() string { return f.Family + " " + f.Table + " " + f.Chain }

// Accept are the commands by which the chain lets endpoints' packets pass.
func (f ForeignFilter) Accept() []string {
	if f.Input {
		return []string{fmt.Sprintf("nft insert rule %s meta iifgroup { %#x, %#x } meta l4proto { tcp, udp } th dport { 53, %d } accept", f, Group, GroupInternal, RedirectPort)}
	}
	return []string{
		fmt.Sprintf("nft insert rule %s meta iifgroup %#x accept", f, Group),
		fmt.Sprintf("nft insert rule %s meta oifgroup %#x accept", f, Group),
	}
}

// Overlap is a route of another program to addresses of a subnet of ours.
type Overlap struct {
	Network string // by name, if this host carries it
	Subnet  netip.Prefix
	Route   ForeignRoute
	// Taken: the kernel takes this route, not ours, for the addresses that both
	// lead to.
	Taken bool
}

// ForeignRoute is a route that is not ours.
type ForeignRoute struct {
	Dst   netip.Prefix
	Kind  string // of ip-route(8): blackhole, local, …; empty is unicast
	Via   netip.Addr
	Dev   string
	Table uint32
}

// MainTable is the routing table that ours are in (RT_TABLE_MAIN).
const MainTable = 254

// String is the route in the notation of ip-route(8).
func (r ForeignRoute) String() string {
	text := r.Dst.String()
	if r.Kind != "" {
		text = r.Kind + " " + text
	}
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Dev != "" {
		text += " dev " + r.Dev
	}
	if r.Table != MainTable && r.Kind != "local" {
		text += fmt.Sprintf(" table %d", r.Table)
	}
	return text
}

// Deletion is the command that removes the route.
func (r ForeignRoute) Deletion() string {
	if r.Kind == "local" {
		return fmt.Sprintf("ip addr del %s dev %s", r.Dst.Addr(), r.Dev)
	}
	return "ip route del " + r.String()
}

// Cut are the addresses that both lead to.
func (o Overlap) Cut() netip.Prefix {
	if o.Route.Dst.Bits() > o.Subnet.Bits() {
		return o.Route.Dst
	}
	return o.Subnet
}

// Compare orders by subnet and route.
func (o Overlap) Compare(p Overlap) int {
	return cmp.Or(o.Subnet.Compare(p.Subnet), o.Route.Dst.Compare(p.Route.Dst), cmp.Compare(o.Route.Table, p.Route.Table),
		cmp.Compare(o.Route.Dev, p.Route.Dev))
}

// covers reports whether what this host sends into the subnet already takes the
// route, as a part of a larger network than all others but the world.
func (o Overlap) covers(subnet netip.Prefix) bool {
	return o.Subnet == subnet && o.Route.Table == MainTable && o.Route.Dst.Bits() > 0 && o.Route.Dst.Bits() <= subnet.Bits()
}

// Prohibit is a route by which the kernel refuses what is sent into the subnet of
// a network that this host does not carry: else it would leave by the default
// route, for nobody. Its metric is the last, so that any other route to the same
// subnet is taken first.
type Prohibit struct{ Dst netip.Prefix }

// LastMetric is the metric of a Prohibit.
const LastMetric = 1<<32 - 2

// Key is that of a route.
func (p Prohibit) Key() Key { return routeKey{p.Dst, LastMetric} }

// Rank is that of a route.
func (p Prohibit) Rank() Rank { return RankRoute }

// String is the ip-route(8) command.
func (p Prohibit) String() string {
	return fmt.Sprintf("ip route replace prohibit %s proto %d metric %d", p.Dst, Protocol, LastMetric)
}

// Deletion is the command that removes the route.
func (p Prohibit) Deletion() string {
	return fmt.Sprintf("ip route del prohibit %s proto %d metric %d", p.Dst, Protocol, LastMetric)
}

// elsewhere are the routes into subnets of networks that this host does not carry.
// A subnet that another program's route covers is somebody's working network here.
func (b *builder) elsewhere(subnets []netip.Prefix, around Surroundings) {
	for _, dst := range subnets {
		if !slices.ContainsFunc(around.Routes, func(o Overlap) bool { return o.covers(dst) }) {
			b.add(Prohibit{dst})
		}
	}
}

// Surroundings returns what stands in the way of the networks on this host, as the
// last reading of the kernel found it.
func (o *Overlay) Surroundings() Surroundings {
	if s := o.around.Load(); s != nil {
		return *s
	}
	return Surroundings{}
}

// notice keeps what stands in the way of the networks here, and says what is new.
func (o *Overlay) notice(all Surroundings) {
	before, now := o.Surroundings(), all
	now.Routes = o.state.taken(all.Routes)
	o.around.Store(&now)
	o.noticeFilters(before.Filters, now.Filters)
	for _, r := range now.Routes {
		if !slices.Contains(before.Routes, r) {
			o.log.Warn("another program's route takes packets for endpoints", "route", r.Route, "network", r.Network, "addrs", r.Cut())
		}
	}
	for _, r := range before.Routes {
		if !slices.Contains(now.Routes, r) {
			o.log.Info("the route that took packets for endpoints is gone", "route", r.Route, "network", r.Network)
		}
	}
}

func (o *Overlay) noticeFilters(before, now []ForeignFilter) {
	in := func(all []ForeignFilter, f ForeignFilter) bool {
		return slices.ContainsFunc(all, func(g ForeignFilter) bool { return f.String() == g.String() })
	}
	for _, f := range now {
		if !in(before, f) {
			o.log.Warn("another program's packet filter drops what endpoints send or are sent", "chain", f.String(), "drops", f.Drops)
		}
	}
	for _, f := range before {
		if !in(now, f) {
			o.log.Info("the packet filter that dropped endpoints' packets lets them pass", "chain", f.String())
		}
	}
}

// interest is what other programs may stand in the way of.
func (s *State) interest(uplinks []string) Interest {
	about := Interest{Subnets: s.prefixes(), Uplinks: uplinks}
	for i := range s.Networks {
		n := &s.Networks[i]
		if n.Internal || n.Probe {
			continue
		}
		w := Way{Dev: GatewayName(n.VNI)}
		for _, sub := range n.Subnets {
			w.Addrs = append(w.Addrs, sub.Gateway.Next())
		}
		about.Ways = append(about.Ways, w)
		about.Published = about.Published || len(n.Published) > 0
	}
	return about
}

// taken are the routes by which the kernel sends elsewhere what belongs into a
// network here.
func (s *State) taken(routes []Overlap) (out []Overlap) {
	for i := range s.Networks {
		for _, sub := range s.Networks[i].Subnets {
			for _, r := range routes {
				if r.Taken && r.Subnet == sub.CIDR.Masked() {
					r.Network = s.Networks[i].Name
					out = append(out, r)
				}
			}
		}
	}
	return out
}

// prefixes are all subnets that a state names: of the networks here, and of others.
func (s *State) prefixes() []netip.Prefix {
	out := slices.Clone(s.Elsewhere)
	for i := range s.Networks {
		for _, sub := range s.Networks[i].Subnets {
			out = append(out, sub.CIDR.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
