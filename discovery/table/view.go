package table

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// viewCache holds the parts of the last view. Members nil means to be built
// again; of the endpoints those of stale owners are.
type viewCache struct {
	members   []discovery.Member
	endpoints []discovery.Record
	stale     map[discovery.HostID]struct{}
}

// View returns what the table knows. Both lists are shared by all views until
// the next change and must not be written to.
func (t *Table) View() discovery.View {
	if t.view.members == nil {
		t.view.members = t.memberList()
	}
	if len(t.view.stale) > 0 {
		t.view.endpoints = t.recordList()
		clear(t.view.stale)
	}
	return discovery.View{Self: t.self, Members: t.view.members, Endpoints: t.view.endpoints, Complete: t.complete}
}

func (t *Table) memberList() []discovery.Member {
	out := make([]discovery.Member, 0, len(t.owners))
	for id, o := range t.owners {
		if o.at.IsZero() && down(o.status) {
			continue // an address read from the disk, not a member
		}
		out = append(out, discovery.Member{ID: id, Name: o.header.Name, Version: o.header.Version,
			Gossip: o.gossip, Status: o.memberStatus(), RTT: o.rtt, Header: o.header})
	}
	slices.SortFunc(out, func(a, b discovery.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// memberStatus takes a host's own goodbye for more than gossip's opinion.
func (o *owner) memberStatus() discovery.MemberStatus {
	if down(o.status) && o.header.Flags&discovery.FlagGone != 0 {
		return discovery.StatusLeft
	}
	return o.status
}

// recordList merges the records of the stale owners into those of the last
// view: one change among a hundred thousand endpoints must not sort them all.
func (t *Table) recordList() []discovery.Record {
	fresh := t.freshRecords()
	out := make([]discovery.Record, 0, len(t.view.endpoints)+len(fresh))
	for i := range t.view.endpoints {
		r := &t.view.endpoints[i]
		if _, stale := t.view.stale[r.Host]; stale {
			continue
		}
		for len(fresh) > 0 && compareRecords(&fresh[0], r) < 0 {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
		out = append(out, *r)
		out[len(out)-1].Conflicted = false
	}
	out = append(out, fresh...)
	t.claims.judge(out)
	return out
}

// freshRecords returns the records of the stale owners, sorted.
func (t *Table) freshRecords() (out []discovery.Record) {
	alone := t.othersAlive() == 0
	for id := range t.view.stale {
		o := t.owners[id]
		if o == nil {
			continue // forgotten
		}
		for _, e := range o.eps {
			out = append(out, discovery.Record{Endpoint: e.Endpoint, Host: id,
				Status: t.recordStatus(o, e, alone), Hidden: o.hidden})
		}
	}
	slices.SortFunc(out, func(a, b discovery.Record) int { return compareRecords(&a, &b) })
	return out
}

func (t *Table) recordStatus(o *owner, e entry, alone bool) discovery.EndpointStatus {
	switch {
	case o == t.own && e.ver > t.shown && !alone:
		return discovery.EndpointPending
	case o.status == discovery.StatusDead || o.status == discovery.StatusLeft:
		return discovery.EndpointSuspended // with its agent down alone a host goes on to carry it
	}
	return discovery.EndpointLive
}

func compareRecords(a, b *discovery.Record) int {
	return cmp.Or(
		bytes.Compare(a.Network[:], b.Network[:]),
		bytes.Compare(a.ID[:], b.ID[:]),
		bytes.Compare(a.Host[:], b.Host[:]))
}

// claims counts the endpoints that announce an address, so that a view looks
// for rivals only where there are some.
type claims struct {
	count  map[claim]int
	rivals int // addresses that more than one endpoint announces
}

type claim struct {
	network discovery.NetworkID
	addr    netip.Addr
}

func (c *claims) add(e discovery.Endpoint) {
	for _, a := range e.Addrs() {
		k := claim{e.Network, a}
		c.count[k]++
		if c.count[k] == 2 {
			c.rivals++
		}
	}
}

func (c *claims) remove(e discovery.Endpoint) {
	for _, a := range e.Addrs() {
		k := claim{e.Network, a}
		c.count[k]--
		switch c.count[k] {
		case 1:
			c.rivals--
		case 0:
			delete(c.count, k)
		}
	}
}

// judge marks every record that another one beats at one of its addresses.
func (c *claims) judge(records []discovery.Record) {
	if c.rivals == 0 {
		return
	}
	best := map[claim]*discovery.Record{}
	c.contested(records, func(k claim, r *discovery.Record) {
		if best[k] == nil || beats(r, best[k]) {
			best[k] = r
		}
	})
	c.contested(records, func(k claim, r *discovery.Record) { r.Conflicted = r.Conflicted || best[k] != r })
}

func (c *claims) contested(records []discovery.Record, visit func(claim, *discovery.Record)) {
	for i := range records {
		r := &records[i]
		for _, a := range [...]netip.Addr{r.IPv4, r.IPv6} {
			if k := (claim{r.Network, a}); a.IsValid() && c.count[k] > 1 {
				visit(k, r)
			}
		}
	}
}

// beats decides an address that two endpoints announce: the later claim, which
// has the higher sequence, then the lower host id, then the lower endpoint id.
func beats(r, o *discovery.Record) bool {
	return cmp.Or(
		cmp.Compare(o.Seq, r.Seq),
		bytes.Compare(r.Host[:], o.Host[:]),
		bytes.Compare(r.ID[:], o.ID[:])) < 0
}
