package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// index is one network, ready to be looked up. It never changes.
type index struct {
	Network
	key   string                        // folded name
	names *cowMap[string, *entry]       // by folded name, relative to the network
	addrs *cowMap[netip.Addr, []string] // names of an address, sorted, for PTR
	// replies to its clients, over all zones that had the network.
	replies *replies
}

// newIndex indexes n. old, which may be nil, is the index of the same network
// in the zone before: what is equal is shared, so the usual change, one
// endpoint more or less, costs a comparison and not a second index.
func newIndex(n Network, old *index) *index {
	x := &index{Network: n, key: fold(n.Name)}
	if old == nil {
		old = &index{names: &cowMap[string, *entry]{}, addrs: &cowMap[netip.Addr, []string]{}, replies: &replies{}}
	}
	x.names, x.addrs, x.replies = old.names, old.addrs, old.replies
	gone, come := diffNames(old.Names, n.Names)
	if len(gone)+len(come) == 0 {
		return x
	}
	e := edit{names: x.names.edit(len(come)), addrs: x.addrs.edit(len(come)), drafts: make(map[string]*entry, len(come))}
	for _, n := range gone {
		e.remove(n)
	}
	for _, n := range come {
		e.add(n)
	}
	x.names, x.addrs = e.done()
	return x
}

// diffNames returns what has to be removed from a and added to it to give b.
// It is right for any order and minimal when both are sorted by name.
func diffNames(a, b []Name) (gone, come []Name) {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return nil, nil // the very same slice: most networks do not change
	}
	for len(a) > 0 && len(b) > 0 {
		order := strings.Compare(a[0].Name, b[0].Name)
		if order == 0 {
			order = byAddress(a[0], b[0])
		}
		switch {
		case order == 0 && equalName(a[0], b[0]):
			a, b = a[1:], b[1:]
		case order < 0:
			gone, a = append(gone, a[0]), a[1:]
		case order > 0:
			come, b = append(come, b[0]), b[1:]
		default:
			gone, come, a, b = append(gone, a[0]), append(come, b[0]), a[1:], b[1:]
		}
	}
	return append(gone, a...), append(come, b...)
}

// edit is the change of one index. Entries are drafted and finished once, not
// once for each of the thousand endpoints that share a name.
type edit struct {
	names  *cowEdit[string, *entry]
	addrs  *cowEdit[netip.Addr, []string]
	drafts map[string]*entry
}

func (e edit) add(n Name) {
	for key := range keys(n) {
		e.draft(key).put(n)
		e.parents(key, 1)
	}
	if name := fold(n.Name); servable(name) {
		for _, a := range n.Addrs {
			e.addrs.set(a, inserted(e.addrs.get(a), name))
		}
	}
}

func (e edit) remove(n Name) {
	for key := range keys(n) {
		e.draft(key).take(n)
		e.parents(key, -1)
	}
	if name := fold(n.Name); servable(name) {
		for _, a := range n.Addrs {
			e.drop(a, name)
		}
	}
}

// parents counts a dotted name at each name that it ends with.
func (e edit) parents(key string, d int) {
	for _, parent, dotted := strings.Cut(key, "."); dotted; _, parent, dotted = strings.Cut(parent, ".") {
		e.draft(parent).below += d
	}
}

func (e edit) draft(key string) *entry {
	d := e.drafts[key]
	if d == nil {
		d = e.names.get(key).draft()
		e.drafts[key] = d
	}
	return d
}

func (e edit) done() (*cowMap[string, *entry], *cowMap[netip.Addr, []string]) {
	for key, d := range e.drafts {
		if d.empty() {
			e.names.delete(key)
			continue
		}
		d.finish()
		e.names.set(key, d)
	}
	return e.names.done(), e.addrs.done()
}

func (e edit) drop(a netip.Addr, name string) {
	names := slices.Clone(e.addrs.get(a))
	i := slices.Index(names, name)
	if names = slices.Delete(names, i, i+1); len(names) == 0 {
		e.addrs.delete(a)
		return
	}
	e.addrs.set(a, names)
}

func inserted(names []string, name string) []string {
	i, _ := slices.BinarySearchFunc(names, name, cmp.Compare)
	return slices.Insert(slices.Clone(names), i, name)
}

// keys visits what an endpoint can be asked for, each once: its name and its
// aliases, folded, less those that DNS cannot carry.
func keys(n Name) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		name := fold(n.Name)
		if servable(name) && !yield(name) {
			return
		}
		for i, alias := range n.Aliases {
			key := fold(alias)
			again := key == name || slices.ContainsFunc(n.Aliases[:i], func(a string) bool { return fold(a) == key })
			if !again && servable(key) && !yield(key) {
				return
			}
		}
	}
}
