package table

import (
	"bytes"
	"cmp"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// Holder finds who holds an address, as the pool has it; false: it is not known.
type Holder = func(network discovery.NetworkID, a netip.Addr) (discovery.HostID, bool)

// announced counts the endpoints that announce an address, so that a view looks
// for conflicts only where there are some.
type announced struct {
	count     map[claimed]int
	conflicts int // of which more than one endpoint announces the same
}

// claimed is what only one endpoint of a network can have: an address, or a MAC.
type claimed struct {
	network discovery.NetworkID
	addr    netip.Addr    // invalid: the MAC is meant
	mac     discovery.MAC // zero: the address is meant
}

// claims are what an endpoint says that it alone has. A MAC that is made of the
// address is the endpoint's if the address is.
func claims(e *discovery.Endpoint) (out [3]claimed, n int) {
	for _, a := range [...]netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out[n] = claimed{network: e.Network, addr: a}
			n++
		}
	}
	if b := e.IPv4.AsSlice(); e.MAC[0] != 0x0e || !bytes.Equal(e.MAC[2:], b) {
		out[n] = claimed{network: e.Network, mac: e.MAC}
		n++
	}
	return out, n
}

func (a *announced) add(e *discovery.Endpoint) {
	all, n := claims(e)
	for _, k := range all[:n] {
		a.count[k]++
		if a.count[k] == 2 {
			a.conflicts++
		}
	}
}

func (a *announced) remove(e *discovery.Endpoint) {
	all, n := claims(e)
	for _, k := range all[:n] {
		a.count[k]--
		switch a.count[k] {
		case 1:
			a.conflicts--
		case 0:
			delete(a.count, k)
		}
	}
}

// judge decides conflicts. The pool says who holds an address. What it does not say
// stays with whoever had it before: a number that a member makes up decides
// nothing.
type judge struct {
	holder Holder                           // may be nil
	since  func(r *discovery.Record) uint64 // when this host first heard of r
}

// resolveConflicts marks every record that loses one of its claims to another.
func (a *announced) resolveConflicts(records []discovery.Record, j judge) {
	if a.conflicts == 0 {
		return
	}
	winner := map[claimed]*discovery.Record{}
	a.inConflict(records, func(k claimed, r *discovery.Record) {
		if winner[k] == nil || j.wins(k, r, winner[k]) {
			winner[k] = r
		}
	})
	a.inConflict(records, func(k claimed, r *discovery.Record) { r.Conflicted = r.Conflicted || winner[k] != r })
}

func (a *announced) inConflict(records []discovery.Record, visit func(claimed, *discovery.Record)) {
	for i := range records {
		r := &records[i]
		all, n := claims(&r.Endpoint)
		for _, k := range all[:n] {
			if a.count[k] > 1 {
				visit(k, r)
			}
		}
	}
}

// wins reports whether r, not o, has what both claim.
func (j judge) wins(k claimed, r, o *discovery.Record) bool {
	return cmp.Or(
		cmp.Compare(j.rank(k, r), j.rank(k, o)),
		cmp.Compare(j.since(r), j.since(o)),
		bytes.Compare(r.Host[:], o.Host[:]),
		bytes.Compare(r.ID[:], o.ID[:])) < 0
}

// rank is what the claim has for it, 0 most. Nobody records who has a MAC: it may
// move to another host when its own is dead.
func (j judge) rank(k claimed, r *discovery.Record) int {
	if k.addr.IsValid() && j.holder != nil {
		if host, known := j.holder(k.network, k.addr); known {
			return flag(host != r.Host)
		}
	}
	return flag(!k.addr.IsValid() && r.Status == discovery.EndpointSuspended)
}

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}
