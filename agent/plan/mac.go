package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// Octets that the MAC addresses of this package begin with.
const (
	hostOctet     = 0x0a
	endpointOctet = 0x0e
)

// GatewayMAC is this host's own on its gateway port: the gateway's address is
// the same on every host, so a shared hardware address would make the ports of
// two hosts one station. The first octet keeps it apart from EndpointMAC's.
func GatewayMAC(self discovery.HostID, vni uint32) overlay.MAC {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(self[:], vni))
	mac := overlay.MAC{hostOctet}
	copy(mac[1:], sum[:])
	return mac
}

// EndpointMAC is derived from the address, so that an address which moves to
// another host keeps its hardware address and no neighbour's cache is wrong.
func EndpointMAC(vni uint32, a netip.Addr) discovery.MAC {
	if a.Is4() {
		b := a.As4()
		return discovery.MAC{endpointOctet, byte(vni), b[0], b[1], b[2], b[3]}
	}
	b := a.As16()
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b[:], vni))
	return discovery.MAC{endpointOctet, byte(vni), sum[0], sum[1], sum[2], sum[3]}
}

// ProbeMAC is a member's address in the probe network.
func ProbeMAC(id discovery.HostID) overlay.MAC {
	sum := sha256.Sum256(append([]byte("probe"), id[:]...))
	mac := overlay.MAC{hostOctet}
	copy(mac[1:], sum[:])
	return mac
}
