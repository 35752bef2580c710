package plan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
)

// Here what the members announce meets the networks and the hosts of the pool. What
// does not fit them is left out of the plan, so that neither the kernel nor DNS ever
// holds it, and is returned by New.

var (
	errStranger = errors.New("the pool has no record of this host")
	errVTEP     = errors.New("announces a tunnel address that the pool does not have")
	errOwnVTEP  = errors.New("announces the tunnel address of this host")
	errTaken    = errors.New("announces the tunnel address of another member")
)

// namedOf is how many refusals of one member are returned: their number is in the
// member's hand.
const namedOf = 3

// border is what is refused, and what the checks need.
type border struct {
	refused  map[discovery.HostID][]string
	distrust map[discovery.HostID]bool // of members of which nothing is planned
	underlay []netip.Addr              // of members, of both families
}

// admit takes the members that can be believed into the planner.
func (p *planner) admit() {
	p.border = border{refused: map[discovery.HostID][]string{}, distrust: map[discovery.HostID]bool{}}
	for _, r := range p.snap.Refused {
		p.refuse(r.Host, r.What+" "+r.Why)
	}
	first := map[netip.Addr]discovery.Member{}
	for _, m := range p.snap.Members {
		if m.ID != p.snap.Self && m.Header.Flags&discovery.FlagGone != 0 {
			p.distrust[m.ID] = true // it has left, and nothing is wrong
			continue
		}
		if err := p.believe(m); err != nil {
			p.distrust[m.ID] = true
			p.refuse(m.ID, err.Error())
			continue
		}
		if h, ok := p.snap.Hosts[m.ID]; ok {
			m.Name = cmp.Or(h.Name, m.Name)
		}
		p.members[m.ID] = m
		for _, a := range []netip.Addr{m.Header.VTEP, m.Gossip.Addr()} {
			if a.IsValid() {
				p.underlay = append(p.underlay, a)
			}
		}
		p.share(first, m)
	}
}

// believe says why nothing of a member is planned.
func (p *planner) believe(m discovery.Member) error {
	vtep := m.Header.VTEP
	if m.ID == p.snap.Self {
		return nil
	}
	if vtep.IsValid() && vtep == p.cfg.VTEP {
		return errOwnVTEP
	}
	if p.snap.Hosts == nil {
		return nil
	}
	h, ok := p.snap.Hosts[m.ID]
	switch {
	case !ok:
		return errStranger
	case !vtep.IsValid() || vtep == h.VTEP:
		return nil
	case p.snap.HostsRead || m.Gossip.Addr().IsValid() && m.Gossip.Addr() != vtep:
		return errVTEP
	}
	// The pool is away, and the host may have moved: it is where its gossip answers.
	for id, o := range p.snap.Hosts {
		if id != m.ID && o.VTEP == vtep {
			return errTaken
		}
	}
	return nil
}

// share lets one member alone have a tunnel address: the one that is alive, then the
// one whose gossip answers there.
func (p *planner) share(first map[netip.Addr]discovery.Member, m discovery.Member) {
	vtep := m.Header.VTEP
	if !vtep.IsValid() {
		return
	}
	o, taken := first[vtep]
	loser := m
	if !taken {
		first[vtep] = m
		return
	}
	if m.ID == p.snap.Self || o.ID != p.snap.Self && hasVTEP(m) > hasVTEP(o) {
		first[vtep], loser = m, o
	}
	p.distrust[loser.ID] = true
	delete(p.members, loser.ID)
	if loser.Status == discovery.StatusAlive {
		p.refuse(loser.ID, errTaken.Error())
	}
}

// hasVTEP says how much speaks for it that a member is at its tunnel address.
func hasVTEP(m discovery.Member) (n int) {
	if m.Status == discovery.StatusAlive || m.Status == discovery.StatusSuspect {
		n += 2
	}
	if m.Gossip.Addr() == m.Header.VTEP {
		n++
	}
	return n
}

// sift returns the records of a network that may be planned: all, without a copy,
// when nothing is wrong.
func (p *planner) sift(n discovery.Network, all []discovery.Record) []discovery.Record {
	check := placing{net: n, places: strict.PlacesOf(n), underlay: p.within(n)}
	for i := range all {
		if p.passes(&check, &all[i]) {
			continue
		}
		kept := slices.Clone(all[:i])
		for j := range all[i+1:] {
			if r := &all[i+1+j]; p.passes(&check, r) {
				kept = append(kept, *r)
			}
		}
		return kept
	}
	return all
}

// passes reports whether the plan takes a record, and notes why it does not.
func (p *planner) passes(check *placing, r *discovery.Record) bool {
	if r.Host == p.snap.Self {
		return true
	}
	if len(p.distrust) > 0 && p.distrust[r.Host] {
		return false
	}
	err := check.endpoint(r, p.snap.Members)
	if err != nil {
		p.refuse(r.Host, "endpoint "+cmp.Or(r.Name, r.ID.String())+": "+err.Error())
	}
	return err == nil
}

// within are the members' own addresses that lie in a network's subnets.
func (p *planner) within(n discovery.Network) (out []netip.Addr) {
	for _, a := range p.underlay {
		if _, ok := n.Covering(a); ok {
			out = append(out, a)
		}
	}
	return out
}

// placing checks endpoints against their network.
type placing struct {
	net      discovery.Network
	places   strict.Places
	underlay []netip.Addr                       // of members, in the network's subnets
	gateways map[discovery.MAC]discovery.HostID // of the members' gateway ports; made when it is needed
}

// endpoint says why the network cannot have an endpoint of another member.
func (c *placing) endpoint(r *discovery.Record, members []discovery.Member) error {
	derived := false
	for _, a := range [...]netip.Addr{r.IPv4, r.IPv6} {
		if !a.IsValid() {
			continue
		}
		if err := c.places.Check(a); err != nil {
			return err
		}
		if slices.Contains(c.underlay, a) {
			return fmt.Errorf("address %s is a member's own", a)
		}
		derived = derived || r.MAC == EndpointMAC(c.net.VNI, a)
	}
	if derived {
		return nil
	}
	return c.station(r, members)
}

// station says why an endpoint cannot have a MAC that is not made of its address: it
// is the one of another address, or of a host's gateway port. Traffic for those would
// go to whoever announces it.
func (c *placing) station(r *discovery.Record, members []discovery.Member) error {
	switch r.MAC[0] {
	case endpointOctet:
		a := netip.AddrFrom4([4]byte(r.MAC[2:]))
		if _, ok := c.net.Covering(a); ok && r.MAC == EndpointMAC(c.net.VNI, a) {
			return fmt.Errorf("MAC address %s is that of %s", r.MAC, a)
		}
	case hostOctet:
		if c.gateways == nil {
			c.gateways = map[discovery.MAC]discovery.HostID{}
			for _, m := range members {
				c.gateways[discovery.MAC(GatewayMAC(m.ID, c.net.VNI))] = m.ID
			}
		}
		if host, ok := c.gateways[r.MAC]; ok && host != r.Host {
			return fmt.Errorf("MAC address %s is that of another host", r.MAC)
		}
	}
	return nil
}

// refuse notes what is wrong with what a member says.
func (b *border) refuse(host discovery.HostID, why string) {
	if all := b.refused[host]; len(all) < namedOf && !slices.Contains(all, why) {
		b.refused[host] = append(all, why)
	}
}

// said are the refusals, by member.
func (p *planner) said() []strict.Refused {
	var out []strict.Refused
	for _, m := range p.snap.Members {
		for _, why := range p.refused[m.ID] {
			name := cmp.Or(p.snap.Hosts[m.ID].Name, m.Name, m.ID.String())
			source := "member " + name
			if a := m.Gossip.Addr(); a.IsValid() {
				source += " (" + a.String() + ")"
			}
			out = append(out, strict.Refused{Source: source, Why: strings.ToValidUTF8(why, "?"), Hint: "systemctl stop agentd # on " + name + ", if it is not to be trusted\nagentctl leave --force " + name})
		}
	}
	return out
}
