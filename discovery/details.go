package discovery

import (
	"net/netip"
	"slices"
)

// Details are what people look for of an endpoint, and no packet's way depends on.
type Details struct {
	Ports  []Port   // published, sorted
	Labels []string // KEY=VALUE, sorted
	// Told is 1 and the number of ports and labels that are left out; 0: the host is of
	// a release that tells neither.
	Told uint16
}

// Equal reports whether both say the same.
func (d Details) Equal(o Details) bool {
	return d.Told == o.Told && slices.Equal(d.Ports, o.Ports) && slices.Equal(d.Labels, o.Labels)
}

// Port is a port of a host that leads to an endpoint on it.
type Port struct {
	Proto    uint8      // 6 is TCP, 17 is UDP
	HostAddr netip.Addr // zero: every address of the host
	HostPort uint16
	Port     uint16 // of the endpoint
}
