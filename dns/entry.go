package dns

import (
	"net/netip"
	"slices"
)

// entry is what a network knows under one name. Once it is finished it never
// changes: a network with another endpoint of that name has another entry.
type entry struct {
	members []Name // endpoints of this name or alias, by address
	below   int    // dotted names that end with this one: it exists though it may hold nothing (RFC 8020)

	of  hit // the ready members, or all where none is ready
	all hit // all members, for _all.<name>
}

// draft is a copy of e, which may be nil, that may still be changed: members
// taken out of it and then put in, until finish.
func (e *entry) draft() *entry {
	if e == nil {
		return &entry{}
	}
	return &entry{members: slices.Clone(e.members), below: e.below}
}

// take removes one member equal to n.
func (e *entry) take(n Name) {
	i, _ := slices.BinarySearchFunc(e.members, n, byAddress)
	for !equalName(e.members[i], n) { // among those of the same address
		i++
	}
	e.members = slices.Delete(e.members, i, i+1)
}

func (e *entry) put(n Name) { e.members = append(e.members, n) }

func (e *entry) empty() bool { return len(e.members) == 0 && e.below == 0 }

// finish derives what is asked for from the members.
func (e *entry) finish() {
	slices.SortStableFunc(e.members, byAddress)
	e.all = addresses(e.members)
	e.of = e.all
	if chosen := ready(e.members); len(chosen) < len(e.members) {
		e.of = addresses(chosen)
	}
	e.all.answers = -1
}

// ready returns the members that are ready, or all of them if none is: a name
// whose every endpoint is unhealthy still has to lead somewhere.
func ready(members []Name) []Name {
	unready := func(n Name) bool { return n.Unready }
	if !slices.ContainsFunc(members, unready) {
		return members
	}
	if r := slices.DeleteFunc(slices.Clone(members), unready); len(r) > 0 {
		return r
	}
	return members
}

// addresses splits what the members have by family, this host's first.
func addresses(members []Name) (h hit) {
	if len(members) == 1 && len(members[0].Addrs) == 1 && members[0].Addrs[0].Is4() {
		return hit{v4: members[0].Addrs} // nearly every name: nothing to copy
	}
	for _, here := range []bool{true, false} {
		for _, m := range members {
			if m.Here != here {
				continue
			}
			for _, a := range m.Addrs {
				if a.Is4() {
					h.v4 = append(h.v4, a)
				} else {
					h.v6 = append(h.v6, a)
				}
			}
		}
		if here {
			h.here4, h.here6 = len(h.v4), len(h.v6)
		}
	}
	return h
}

func byAddress(a, b Name) int { return slices.CompareFunc(a.Addrs, b.Addrs, netip.Addr.Compare) }

func equalName(a, b Name) bool {
	return a.Name == b.Name && a.Unready == b.Unready && a.Here == b.Here &&
		slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Aliases, b.Aliases)
}
