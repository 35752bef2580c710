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
	Routes []Overlap // sorted
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
	before, now := o.Surroundings(), Surroundings{Routes: o.state.taken(all.Routes)}
	o.around.Store(&now)
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
