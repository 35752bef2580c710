package overlay

import (
	"fmt"
	"net/netip"
)

// Addr is an address of a gateway port in the host namespace, or DNSAddr on lo.
// It makes no prefix route: the Route beside it also says which source to use.
type Addr struct {
	Dev    string
	Prefix netip.Prefix
	Other  string // as in Link
}

// addrKey is how the kernel indexes addresses.
type addrKey struct {
	Dev    string
	Prefix netip.Prefix
}

// Key is the address on its device.
func (a Addr) Key() Key { return addrKey{a.Dev, a.Prefix} }

// Rank places addresses after their link.
func (a Addr) Rank() Rank { return RankAddr }

// String is the ip-address(8) command. Without duplicate address detection
// (RFC 4862): the gateway address is the same on every host by design.
func (a Addr) String() string {
	nodad := ""
	if a.Prefix.Addr().Is6() {
		nodad = " nodad"
	}
	scope := ""
	if a.Local() {
		scope = " scope host"
	}
	return fmt.Sprintf("ip addr replace %s dev %s%s noprefixroute%s%s", a.Prefix, a.Dev, scope, nodad, comment(a.Other))
}

// Local reports whether the address is for the host itself alone: the kernel
// never takes it as the source of a packet to elsewhere.
func (a Addr) Local() bool { return a.Dev == loopback }

// Deletion is the command that removes the address.
func (a Addr) Deletion() string { return fmt.Sprintf("ip addr del %s dev %s", a.Prefix, a.Dev) }

// device is none for lo, which is always there.
func (a Addr) device() LinkKey {
	if a.Local() {
		return LinkKey{}
	}
	return LinkKey{Host, a.Dev}
}

// Route leads the host's packets for a subnet to its gateway port.
type Route struct {
	Dst    netip.Prefix
	Metric uint32 // 0 unless two networks share the subnet
	Dev    string
	Src    netip.Addr
	Other  string // as in Link
}

// routeKey is how the kernel indexes the routes of one table.
type routeKey struct {
	Dst    netip.Prefix
	Metric uint32
}

// Key is the destination with its metric.
func (r Route) Key() Key { return routeKey{r.Dst, r.Metric} }

// Rank places routes after the address that they take as source.
func (r Route) Rank() Rank { return RankRoute }

// String is the ip-route(8) command.
func (r Route) String() string {
	return fmt.Sprintf("ip route replace %s dev %s proto %d scope link src %s%s%s",
		r.Dst, r.Dev, Protocol, r.Src, r.metric(), comment(r.Other))
}

// Deletion is the command that removes the route.
func (r Route) Deletion() string {
	return fmt.Sprintf("ip route del %s dev %s proto %d%s", r.Dst, r.Dev, Protocol, r.metric())
}

func (r Route) metric() string {
	if r.Metric == 0 {
		return ""
	}
	return fmt.Sprintf(" metric %d", r.Metric)
}

func (r Route) device() LinkKey { return LinkKey{Host, r.Dev} }
