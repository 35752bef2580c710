package dns

import (
	"net/netip"
	"strings"
)

// hit is a name that exists: what it holds, of which all may be empty.
type hit struct {
	v4, v6 []netip.Addr
	// Of a service only: its ports and the name that they are reached at,
	// with that name's addresses below.
	srv    []SRV
	target string
	t4, t6 []netip.Addr
}

// lookup finds a folded name relative to the network: an endpoint's name or
// alias, "_all." before one, or a service, "_http._tcp." before one.
func (x *index) lookup(key string) (hit, bool) {
	if e := x.names.get(key); e != nil {
		return hit{v4: e.v4, v6: e.v6}, true
	}
	if !strings.HasPrefix(key, "_") {
		return hit{}, false
	}
	label, rest, _ := strings.Cut(key, ".")
	if e := x.names.get(rest); e != nil {
		if label == "_all" {
			return hit{v4: e.all4, v6: e.all6}, true
		}
		_, known := e.service("", label)
		return hit{}, known
	}
	protocol, target, _ := strings.Cut(rest, ".")
	e := x.names.get(target)
	if e == nil {
		return hit{}, false
	}
	ports, known := e.service(label, protocol)
	return hit{srv: ports, target: target + "." + x.key, t4: e.v4, t6: e.v6}, known
}

// holds reports whether all addresses of p are the network's.
func (x *index) holds(p netip.Prefix) (subnet netip.Prefix, ok bool) {
	for _, s := range x.Subnets {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return s, true
		}
	}
	return netip.Prefix{}, false
}
