package table

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// viewCache holds the parts of the last view. Members nil means to be built
// again; of the endpoints those of stale owners are.
type viewCache struct {
	members   []discovery.Member
	endpoints []discovery.Record
	refused   []discovery.Refusal
	stale     map[discovery.HostID]struct{}
}

// View returns what the table knows. Both lists are shared by all views until
// the next change and must not be written to.
func (t *Table) View() discovery.View {
	if t.view.members == nil {
		t.view.members, t.view.refused = t.owners.members(t.own.id), t.limit.refused(&t.owners)
	}
	if len(t.view.stale) > 0 {
		t.view.endpoints = t.view.merge(t.staleRecords())
		t.announced.resolveConflicts(t.view.endpoints, judge{holder: t.holder, since: t.owners.since})
		clear(t.view.stale)
	}
	return discovery.View{Self: t.own.id, Members: t.view.members, Endpoints: t.view.endpoints,
		Refused: t.view.refused, Complete: t.complete}
}

// members returns the owners as members, sorted by name, then id.
func (os *owners) members(self discovery.HostID) []discovery.Member {
	out := make([]discovery.Member, 0, len(os.byID))
	for id, o := range os.byID {
		if o.at.IsZero() && down(o.status) || !os.shown(o, self) {
			continue // an address read from the disk, not a member
		}
		out = append(out, discovery.Member{ID: id, Name: o.header.Name, Version: o.header.Version,
			Gossip: o.gossip, Status: o.memberStatus(), RTT: o.rtt, Down: o.died, Header: o.header})
	}
	slices.SortFunc(out, func(a, b discovery.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// merge puts the records of the stale owners among those of the last view: one
// change among a hundred thousand endpoints must not sort them all.
func (v *viewCache) merge(fresh []discovery.Record) []discovery.Record {
	out := make([]discovery.Record, 0, len(v.endpoints)+len(fresh))
	for i := range v.endpoints {
		r := &v.endpoints[i]
		if _, stale := v.stale[r.Host]; stale {
			continue
		}
		for len(fresh) > 0 && compareRecords(&fresh[0], r) < 0 {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
		out = append(out, *r)
		out[len(out)-1].Conflicted = false
	}
	return append(out, fresh...)
}

// staleRecords returns the records of the stale owners, sorted.
func (t *Table) staleRecords() (out []discovery.Record) {
	alone := t.owners.alone(t.own.id)
	for id := range t.view.stale {
		o := t.owners.byID[id]
		if o == nil || !t.owners.shown(o, t.own.id) {
			continue // forgotten, or not yet a member
		}
		for _, e := range o.eps {
			if !o.believes(e.ID) {
				continue
			}
			out = append(out, discovery.Record{Endpoint: e.Endpoint, Host: id,
				Status: t.state.recordStatus(o, e, o == t.own && !alone), Hidden: o.hidden})
		}
	}
	slices.SortFunc(out, func(a, b discovery.Record) int { return compareRecords(&a, &b) })
	return out
}

func compareRecords(a, b *discovery.Record) int {
	return cmp.Or(
		bytes.Compare(a.Network[:], b.Network[:]),
		bytes.Compare(a.ID[:], b.ID[:]),
		bytes.Compare(a.Host[:], b.Host[:]))
}
