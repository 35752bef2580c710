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

	// Of the ready members, or of all where none is ready.
	v4, v6 []netip.Addr
	// Of all members, for _all.<name>.
	all4, all6 []netip.Addr
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
	e.all4, e.all6 = addresses(e.members)
	e.v4, e.v6 = e.all4, e.all6
	if chosen := ready(e.members); len(chosen) < len(e.members) {
		e.v4, e.v6 = addresses(chosen)
	}
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

// addresses splits what the members have by family.
func addresses(members []Name) (v4, v6 []netip.Addr) {
	if len(members) == 1 && len(members[0].Addrs) == 1 && members[0].Addrs[0].Is4() {
		return members[0].Addrs, nil // nearly every name: nothing to copy
	}
	for _, m := range members {
		for _, a := range m.Addrs {
			if a.Is4() {
				v4 = append(v4, a)
			} else {
				v6 = append(v6, a)
			}
		}
	}
	return v4, v6
}

func byAddress(a, b Name) int { return slices.CompareFunc(a.Addrs, b.Addrs, netip.Addr.Compare) }

func equalName(a, b Name) bool {
	return a.Name == b.Name && a.Unready == b.Unready &&
		slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Aliases, b.Aliases)
}
