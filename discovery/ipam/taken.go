package ipam

import (
	"net/netip"

	"github.com/weft-net/weft/discovery"
)

// userOf is who uses the address that h is: this host's endpoint, or the host that
// it is lent to.
func (s *shared) userOf(h *holding) (discovery.HostID, discovery.EndpointID) {
	if h.state == stateLent {
		return h.host, discovery.EndpointID{}
	}
	return s.cfg.Self, h.owner
}

// takenBy is the error about an address that is in hand, leased or lent.
func (s *shared) takenBy(nw *network, a netip.Addr, host discovery.HostID, endpoint discovery.EndpointID) *TakenError {
	taken := s.takenError(s.cfg.View(), nw.id, a, host)
	if !endpoint.IsZero() {
		taken.Endpoint = endpoint
	}
	return taken
}

// takenError fills in what the view knows of the host that has a.
func (s *shared) takenError(v discovery.View, id discovery.NetworkID, a netip.Addr, host discovery.HostID) *TakenError {
	out := &TakenError{Addr: a, Host: host, HostName: hostName(v, host)}
	if r, ok := endpointAt(v, id, a); ok && (r.Host == host || host.IsZero()) {
		out.Host, out.HostName, out.Endpoint, out.Name = r.Host, hostName(v, r.Host), r.ID, r.Name
	}
	return out
}
