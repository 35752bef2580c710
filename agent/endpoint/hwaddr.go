package endpoint

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
)

// station is a hardware address on a network. A frame finds its endpoint by it
// alone, so of two endpoints that share one, one is never reached.
type station struct {
	network discovery.NetworkID
	mac     discovery.MAC
}

// stations keeps the hardware addresses of endpoints that are being made.
type stations struct {
	*parts

	mu     sync.Mutex
	making map[station]bool
}

// stationWait is how long hold waits for another host to withdraw its endpoint: a
// container that moves to this host keeps its hardware address.
const stationWait = time.Second

// hold keeps a hardware address for an endpoint that is being made, until it
// is in the journal and release is called. The error names who has it.
func (s *stations) hold(ctx context.Context, n discovery.Network, mac discovery.MAC) (release func(), err error) {
	if host, is := s.gatewayOf(n, mac); is {
		return nil, api.Errorf(api.KindConflict, "the MAC address %s is that of the gateway of network %s on %s", mac, n.Name, host).
			WithHint("agentctl endpoint ls --network %s # choose another MAC address, or none", n.Name)
	}
	of := station{n.ID, mac}
	late := time.After(stationWait)
	for {
		h, held := s.whoHas(of)
		if !held {
			if s.take(of) {
				return func() {
					s.mu.Lock()
					defer s.mu.Unlock()
					delete(s.making, of)
				}, nil
			}
			h = stationHolder{who: "another endpoint that is being attached", host: s.Host.Name, here: true}
		}
		taken := api.Errorf(api.KindConflict, "the MAC address %s is taken on network %s by %s on %s", mac, n.Name, h.who, h.host).
			WithHint("agentctl endpoint ls --network %s # choose another MAC address, or none", n.Name)
		if h.suspended {
			taken = taken.WithHint("agentctl leave --force %s # if that host is gone for good", h.host)
		}
		if h.here || h.suspended {
			return nil, taken
		}
		select {
		case <-ctx.Done():
			return nil, taken
		case <-late:
			return nil, taken
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// gatewayOf is the member whose gateway port has a hardware address on a network.
func (s *stations) gatewayOf(n discovery.Network, mac discovery.MAC) (host string, is bool) {
	for _, m := range s.directory.View().Members {
		if discovery.MAC(plan.GatewayMAC(m.ID, n.VNI)) == mac {
			return m.Name, true
		}
	}
	return "", false
}

// take takes a hardware address; false: another request on this host has just done
// so.
func (s *stations) take(of station) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.making[of] {
		return false
	}
	if s.making == nil {
		s.making = map[station]bool{}
	}
	s.making[of] = true
	return true
}

// stationHolder is who has a hardware address.
type stationHolder struct {
	who, host string
	here      bool // on this host, which knows at once when it goes
	suspended bool // on one that is dead
}

// whoHas finds who has a hardware address; false: nobody.
func (s *stations) whoHas(of station) (stationHolder, bool) {
	for _, l := range s.Journal.All() {
		if l.Endpoint.Network == of.network && l.Endpoint.MAC == of.mac {
			return stationHolder{who: cmp.Or(l.Endpoint.Name, l.Endpoint.ID.String()), host: s.Host.Name, here: true}, true
		}
	}
	v := s.directory.View()
	for _, r := range v.Endpoints {
		if r.Network == of.network && r.MAC == of.mac && r.Host != v.Self {
			return stationHolder{who: cmp.Or(r.Name, r.ID.String()), host: v.MemberName(r.Host), suspended: r.Status == discovery.EndpointSuspended}, true
		}
	}
	return stationHolder{}, false
}

// ParseMAC reads the unicast hardware address of one station (IEEE 802, section
// 8.2): the group bit is clear.
func ParseMAC(text string) (mac discovery.MAC, ok bool) {
	err := mac.UnmarshalText([]byte(strings.ToLower(text)))
	return mac, err == nil && mac[0]&1 == 0 && !mac.IsZero()
}

// SharedMACs are the hardware addresses that two endpoints of a network have, as
// when two hosts attached them at the same moment.
func SharedMACs(v discovery.View) (all []string) {
	first := map[station]discovery.Record{}
	for _, r := range v.Endpoints {
		of := station{r.Network, r.MAC}
		if o, ok := first[of]; ok && !r.Conflicted && !o.Conflicted {
			all = append(all, r.MAC.String()+" of "+cmp.Or(o.Name, o.ID.String())+" on "+v.MemberName(o.Host)+
				" and "+cmp.Or(r.Name, r.ID.String())+" on "+v.MemberName(r.Host))
			continue
		}
		if !r.Conflicted {
			first[of] = r
		}
	}
	return all
}
