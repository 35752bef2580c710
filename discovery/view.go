package discovery

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
)

// viewCache holds the two parts of the last view; nil means to be built again.
type viewCache struct {
	members   []Member
	endpoints []Record
}

// View returns what the table knows. Both lists are shared by all views until
// the next change and must not be written to.
func (t *Table) View() View {
	if t.view.members == nil {
		t.view.members = t.memberList()
	}
	if t.view.endpoints == nil {
		t.view.endpoints = t.recordList()
	}
	return View{Self: t.self, Members: t.view.members, Endpoints: t.view.endpoints, Complete: t.complete}
}

func (t *Table) memberList() []Member {
	out := make([]Member, 0, len(t.owners))
	for id, o := range t.owners {
		if o.at.IsZero() && o.status.down() {
			continue // an address read from the disk, not a member
		}
		out = append(out, Member{ID: id, Name: o.header.Name, Version: o.header.Version,
			Gossip: o.gossip, Status: o.memberStatus(), RTT: o.rtt, Header: o.header})
	}
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// memberStatus takes a host's own goodbye for more than gossip's opinion.
func (o *owner) memberStatus() MemberStatus {
	if o.status.down() && o.header.Flags&FlagGone != 0 {
		return StatusLeft
	}
	return o.status
}

func (t *Table) recordList() []Record {
	n := 0
	for _, o := range t.owners {
		n += len(o.eps)
	}
	out := make([]Record, 0, n)
	alone := t.othersAlive() == 0
	for id, o := range t.owners {
		for _, e := range o.eps {
			out = append(out, Record{Endpoint: e.Endpoint, Host: id,
				Status: t.recordStatus(o, e, alone), Hidden: o.hidden})
		}
	}
	slices.SortFunc(out, compareRecords)
	t.claims.judge(out)
	return out
}

func (t *Table) recordStatus(o *owner, e entry, alone bool) EndpointStatus {
	switch {
	case o == t.own && e.ver > t.shown && !alone:
		return EndpointPending
	case o.status.down():
		return EndpointSuspended
	}
	return EndpointLive
}

func compareRecords(a, b Record) int {
	return cmp.Or(
		bytes.Compare(a.Network[:], b.Network[:]),
		bytes.Compare(a.ID[:], b.ID[:]),
		bytes.Compare(a.Host[:], b.Host[:]))
}

// claims counts the endpoints that announce an address, so that a view looks
// for rivals only where there are some.
type claims map[claim]int

type claim struct {
	network NetworkID
	addr    netip.Addr
}

func (c claims) add(e Endpoint, n int) {
	for _, a := range e.Addrs() {
		k := claim{e.Network, a}
		if c[k] += n; c[k] == 0 {
			delete(c, k)
		}
	}
}

// judge marks every record that another one beats at one of its addresses.
func (c claims) judge(records []Record) {
	best := map[claim]*Record{}
	c.contested(records, func(k claim, r *Record) {
		if best[k] == nil || r.beats(best[k]) {
			best[k] = r
		}
	})
	c.contested(records, func(k claim, r *Record) { r.Beaten = r.Beaten || best[k] != r })
}

func (c claims) contested(records []Record, visit func(claim, *Record)) {
	for i := range records {
		r := &records[i]
		for _, a := range [...]netip.Addr{r.IPv4, r.IPv6} {
			if k := (claim{r.Network, a}); a.IsValid() && c[k] > 1 {
				visit(k, r)
			}
		}
	}
}

// beats decides an address that two endpoints announce: the later claim, which
// has the higher sequence, then the lower host id, then the lower endpoint id.
func (r *Record) beats(o *Record) bool {
	return cmp.Or(
		cmp.Compare(o.Seq, r.Seq),
		bytes.Compare(r.Host[:], o.Host[:]),
		bytes.Compare(r.ID[:], o.ID[:])) < 0
}
