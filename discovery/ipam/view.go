package ipam

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// advertised returns the blocks of a network that the members' headers claim,
// whatever the members' status.
func advertised(v discovery.View, id discovery.NetworkID) map[discovery.HostID][]netip.Prefix {
	out := map[discovery.HostID][]netip.Prefix{}
	for _, m := range v.Members {
		for _, n := range m.Header.Networks {
			if n.ID == id {
				out[m.ID] = append(out[m.ID], n.Blocks...)
			}
		}
	}
	return out
}

// advertiser returns the host whose header has a block that covers a; zero if
// none has.
func advertiser(v discovery.View, id discovery.NetworkID, a netip.Addr) discovery.HostID {
	for host, blocks := range advertised(v, id) {
		if slices.ContainsFunc(blocks, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return host
		}
	}
	return discovery.HostID{}
}

func member(v discovery.View, id discovery.HostID) (discovery.Member, bool) {
	i := slices.IndexFunc(v.Members, func(m discovery.Member) bool { return m.ID == id })
	if i < 0 {
		return discovery.Member{}, false
	}
	return v.Members[i], true
}

func alive(v discovery.View, id discovery.HostID) bool {
	m, ok := member(v, id)
	return ok && m.Status == discovery.StatusAlive
}

func hostName(v discovery.View, id discovery.HostID) string {
	m, _ := member(v, id)
	return m.Name
}

// endpointAt returns the endpoint announced with the address, preferring one
// that is in force.
func endpointAt(v discovery.View, id discovery.NetworkID, a netip.Addr) (found discovery.Record, ok bool) {
	for _, r := range v.Endpoints {
		if r.Network == id && (r.IPv4 == a || r.IPv6 == a) && (!ok || found.Conflicted) {
			found, ok = r, true
		}
	}
	return found, ok
}

// announced yields the addresses in p that endpoints of the network have, and
// their hosts.
func announced(v discovery.View, id discovery.NetworkID, p netip.Prefix) iter.Seq2[netip.Addr, discovery.HostID] {
	return func(yield func(netip.Addr, discovery.HostID) bool) {
		for i := range v.Endpoints {
			r := &v.Endpoints[i]
			if r.Network != id {
				continue
			}
			for _, a := range r.Addrs() {
				if p.Contains(a) && !yield(a, r.Host) {
					return
				}
			}
		}
	}
}

// holders counts, for each host that advertises blocks of the family, the
// addresses of its blocks and those without an endpoint. Whose endpoint it is
// does not matter: an address lent out is in use.
func holders(v discovery.View, n discovery.Network, s discovery.Subnet) map[discovery.HostID]Holder {
	out := map[discovery.HostID]Holder{}
	blocks := advertised(v, n.ID)
	for host, prefixes := range blocks {
		h := Holder{Name: hostName(v, host)}
		for _, p := range prefixes {
			if s.CIDR.Contains(p.Addr()) {
				h.Held += int(s.UsableCount(p))
			}
		}
		if h.Held > 0 {
			h.Unused = max(h.Held-inUse(v, n.ID, prefixes, s), 0)
			out[host] = h
		}
	}
	return out
}

// inUse counts the endpoints of a network with an address in the prefixes that
// lie in s.
func inUse(v discovery.View, id discovery.NetworkID, prefixes []netip.Prefix, s discovery.Subnet) (n int) {
	for _, r := range v.Endpoints {
		if r.Network != id {
			continue
		}
		for _, a := range r.Addrs() {
			if s.CIDR.Contains(a) && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
				n++
			}
		}
	}
	return n
}

// lenders returns the alive hosts other than self that have unused addresses,
// those with most first.
func lenders(v discovery.View, self discovery.HostID, h map[discovery.HostID]Holder) []discovery.HostID {
	var out []discovery.HostID
	for id, holder := range h {
		if id != self && holder.Unused > 0 && alive(v, id) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b discovery.HostID) int {
		return cmp.Or(cmp.Compare(h[b].Unused, h[a].Unused), cmp.Compare(a.String(), b.String()))
	})
	return out
}

// suggest returns an address that nobody advertises and that lies in no block
// of the host to avoid; zero if none is found among the first thousands.
func suggest(v discovery.View, n discovery.Network, s discovery.Subnet, avoid discovery.HostID) netip.Addr {
	const most = 4096
	blocks := advertised(v, n.ID)
	used := map[netip.Addr]bool{}
	for _, r := range v.Endpoints {
		if r.Network == n.ID {
			used[r.IPv4], used[r.IPv6] = true, true
		}
	}
	tried := 0
	for a := range s.Usable(s.CIDR) {
		if tried++; tried > most {
			break
		}
		if !used[a] && !slices.ContainsFunc(blocks[avoid], func(p netip.Prefix) bool { return p.Contains(a) }) {
			return a
		}
	}
	return netip.Addr{}
}
