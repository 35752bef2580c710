package dns

import (
	"net/netip"
	"strings"
)

// hit is a name that exists: what it holds, of which all may be empty.
type hit struct {
	v4, v6       []netip.Addr // this host's first
	here4, here6 int          // how many of each are on this host
	answers      int          // as Network.Answers
}

func (h hit) empty() bool { return len(h.v4)+len(h.v6) == 0 }

// lookup finds a folded name relative to the network: an endpoint's name or
// alias, or "_all." before one.
func (x *index) lookup(key string) (hit, bool) {
	if e := x.names.get(key); e != nil {
		h := e.of
		h.answers = x.Answers
		return h, true
	}
	if name, all := strings.CutPrefix(key, allPrefix); all {
		if e := x.names.get(name); e != nil {
			return e.all, true
		}
	}
	return hit{}, false
}

// allPrefix stands before a name to ask for unready endpoints too.
const allPrefix = "_all."

// holds reports whether all addresses of p are the network's.
func (x *index) holds(p netip.Prefix) (subnet netip.Prefix, ok bool) {
	for _, s := range x.Subnets {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return s, true
		}
	}
	return netip.Prefix{}, false
}
