package discovery

import (
	"cmp"
	"slices"
	"strings"
)

// CIDRs are the network's subnets in one line for people.
func (n Network) CIDRs() string {
	var out []string
	for _, s := range n.Subnets {
		out = append(out, s.CIDR.String())
	}
	return strings.Join(out, ", ")
}

// Member is the member of that id, a zero one when it is not known.
func (v View) Member(id HostID) Member {
	i := slices.IndexFunc(v.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}
	}
	return v.Members[i]
}

// MemberName is what people call a host: its name, or its id when it is not known.
func (v View) MemberName(id HostID) string { return cmp.Or(v.Member(id).Name, id.String()) }

// Using lists who uses a network, as "name on host". A host's own address is no
// user: it goes with the network.
func (v View) Using(id NetworkID) []string {
	var out []string
	for _, r := range v.Endpoints {
		if r.Network == id && r.Runtime != RuntimeHost {
			out = append(out, r.Name+" on "+v.MemberName(r.Host))
		}
	}
	return out
}
