// Package plan turns what the cluster is into what this host's kernel and DNS
// server should hold. It is pure: it reads no file, no clock and no socket, so
// equal arguments give equal results.
package plan

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// Settings are what an operator or the cluster fixed.
type Settings struct {
	Domain     string     // of names, without dots around it
	VTEP       netip.Addr // this host's tunnel address
	TunnelPort uint16     // of all members, UDP
	GossipPort uint16     // of all members, TCP and UDP
	Intercept  Intercept
}

// Intercept says which questions of endpoints to servers elsewhere are answered
// here. The zero value is none.
type Intercept int

// The questions that are answered here.
const (
	InterceptNone      Intercept = iota
	InterceptResolvers           // those to the resolvers that containers here ask
	InterceptAll                 // whatever the server
)

// Own is what only this host knows: its endpoints, which networks it carries,
// and how its containers ask for names.
type Own struct {
	Cluster string // id, for the alias of links
	Locals  []Local
	// Active networks have devices here: those of Locals, and those whose last
	// endpoint went away a moment ago.
	Active    map[discovery.NetworkID]bool
	Resolvers ResolverState
}

// Local is an endpoint of this host.
type Local struct {
	Endpoint  discovery.Endpoint
	Sandbox   string            // the same for all endpoints of one sandbox and for no others
	Ports     []overlay.Publish // of this host, that lead to the endpoint
	NoDefault bool              // the sandbox's default route is another network's, or there is none
}

// ofHost reports whether the endpoint is this host itself, not something that
// runs on it.
func (l Local) ofHost() bool { return l.Endpoint.Runtime == discovery.RuntimeHost }

// ResolverState is how containers here ask for names, other than at a gateway: an
// engine's resolver asks the servers that the engine was told of.
type ResolverState struct {
	Resolvers []netip.Addr // those servers, sorted, without loopback ones
	Search    []string     // the host's search domains, which its containers inherit
	Address   bool         // 169.254.53.53 is an address of this host
	// OtherAddrs are addresses that endpoints' sandboxes have on networks that are
	// not ours, and may ask from.
	OtherAddrs map[discovery.EndpointID][]netip.Addr
}

// New plans a snapshot of the cluster for this host. It returns as well what other
// members announce and cannot be planned.
func New(cfg Settings, s discovery.Snapshot, own Own) (overlay.State, dns.Zone, []strict.Refused) {
	p := planner{cfg: cfg, snap: s, own: own, members: map[discovery.HostID]discovery.Member{}, conflicted: map[discovery.EndpointID]bool{}}
	p.admit()
	p.records = byNetwork(s.Endpoints)
	for _, n := range s.Networks {
		if all := p.records[n.ID]; len(all) > 0 {
			p.records[n.ID] = p.sift(n, all)
		}
	}
	p.noteConflicts()
	return p.state(), p.zone(), p.said()
}

// noteConflicts notes the endpoints of which another host's has the address: own
// ones are not planned, others are refused.
func (p *planner) noteConflicts() {
	for i := range p.snap.Endpoints {
		switch r := &p.snap.Endpoints[i]; {
		case !r.Conflicted:
		case r.Host == p.snap.Self:
			p.conflicted[r.ID] = true
		default:
			p.refuse(r.Host, fmt.Sprintf("endpoint %s: address %s or MAC %s is another host's",
				cmp.Or(r.Name, r.ID.String()), r.Addrs()[0], r.MAC))
		}
	}
}

// planner holds the indexes of one plan.
type planner struct {
	cfg        Settings
	snap       discovery.Snapshot
	own        Own
	members    map[discovery.HostID]discovery.Member // that are believed
	records    map[discovery.NetworkID][]discovery.Record
	conflicted map[discovery.EndpointID]bool // own endpoints whose address another host holds
	border
}

// byNetwork slices the records, which are sorted by network, without copying.
func byNetwork(all []discovery.Record) map[discovery.NetworkID][]discovery.Record {
	out := map[discovery.NetworkID][]discovery.Record{}
	for start := 0; start < len(all); {
		end := start
		for end < len(all) && all[end].Network == all[start].Network {
			end++
		}
		out[all[start].Network] = all[start:end]
		start = end
	}
	return out
}
