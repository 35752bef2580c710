package table

import (
	"bytes"
	"cmp"
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// announced counts the endpoints that announce an address, so that a view looks
// for conflicts only where there are some.
type announced struct {
	count     map[networkAddr]int
	conflicts int // addresses that more than one endpoint announces
}

// networkAddr is an address of a network: two networks may have the same.
type networkAddr struct {
	network discovery.NetworkID
	addr    netip.Addr
}

func (a *announced) add(e discovery.Endpoint) {
	for _, addr := range e.Addrs() {
		k := networkAddr{e.Network, addr}
		a.count[k]++
		if a.count[k] == 2 {
			a.conflicts++
		}
	}
}

func (a *announced) remove(e discovery.Endpoint) {
	for _, addr := range e.Addrs() {
		k := networkAddr{e.Network, addr}
		a.count[k]--
		switch a.count[k] {
		case 1:
			a.conflicts--
		case 0:
			delete(a.count, k)
		}
	}
}

// resolveConflicts marks every record that loses one of its addresses to another.
func (a *announced) resolveConflicts(records []discovery.Record) {
	if a.conflicts == 0 {
		return
	}
	winner := map[networkAddr]*discovery.Record{}
	a.inConflict(records, func(k networkAddr, r *discovery.Record) {
		if winner[k] == nil || wins(r, winner[k]) {
			winner[k] = r
		}
	})
	a.inConflict(records, func(k networkAddr, r *discovery.Record) { r.Conflicted = r.Conflicted || winner[k] != r })
}

func (a *announced) inConflict(records []discovery.Record, visit func(networkAddr, *discovery.Record)) {
	for i := range records {
		r := &records[i]
		for _, addr := range [...]netip.Addr{r.IPv4, r.IPv6} {
			if k := (networkAddr{r.Network, addr}); addr.IsValid() && a.count[k] > 1 {
				visit(k, r)
			}
		}
	}
}

// wins decides an address that two endpoints announce: the higher sequence, which
// was given the address later, then the lower host id, then the lower endpoint id.
func wins(r, o *discovery.Record) bool {
	return cmp.Or(
		cmp.Compare(o.Seq, r.Seq),
		bytes.Compare(r.Host[:], o.Host[:]),
		bytes.Compare(r.ID[:], o.ID[:])) < 0
}
