package overlay

import (
	"fmt"
	"net/netip"
)

// FDB is an entry of a VXLAN device: frames to MAC leave in a tunnel packet to
// VTEP. Permanent, because the cluster knows the place and learning is off.
type FDB struct {
	Dev   string
	MAC   MAC
	VTEP  netip.Addr
	Other string // as in Link
}

// fdbKey is how a VXLAN device indexes its entries. Only the all-zero address
// and multicast addresses may have several destinations; VTEP is zero for the
// rest.
type fdbKey struct {
	Dev  string
	MAC  MAC
	VTEP netip.Addr
}

// Key is the inner address.
func (f FDB) Key() Key {
	if f.MAC.IsZero() || f.MAC[0]&1 == 1 {
		return fdbKey{f.Dev, f.MAC, f.VTEP}
	}
	return fdbKey{Dev: f.Dev, MAC: f.MAC}
}

// Rank places entries last: they need their device.
func (f FDB) Rank() Rank { return RankEntry }

// String is the bridge(8) command.
func (f FDB) String() string {
	return fmt.Sprintf("bridge -n weft fdb replace %s dev %s dst %s self permanent%s", f.MAC, f.Dev, f.VTEP, comment(f.Other))
}

// Deletion is the command that removes the entry.
func (f FDB) Deletion() string {
	return fmt.Sprintf("bridge -n weft fdb del %s dev %s dst %s self", f.MAC, f.Dev, f.VTEP)
}

func (f FDB) device() LinkKey { return LinkKey{Fabric, f.Dev} }

// BridgeFDB is an entry of a bridge: frames to MAC leave through the port Dev.
// Static, because learning is off on every port.
type BridgeFDB struct {
	Bridge string
	MAC    MAC
	Dev    string
	Other  string // as in Link
}

// bridgeFDBKey is how a bridge indexes its entries.
type bridgeFDBKey struct {
	Bridge string
	MAC    MAC
}

// Key is the hardware address.
func (f BridgeFDB) Key() Key { return bridgeFDBKey{f.Bridge, f.MAC} }

// Rank places entries last: they need their port.
func (f BridgeFDB) Rank() Rank { return RankEntry }

// String is the bridge(8) command.
func (f BridgeFDB) String() string {
	return fmt.Sprintf("bridge -n weft fdb replace %s dev %s master static%s", f.MAC, f.Dev, comment(f.Other))
}

// Deletion is the command that removes the entry.
func (f BridgeFDB) Deletion() string {
	return fmt.Sprintf("bridge -n weft fdb del %s dev %s master", f.MAC, f.Dev)
}

func (f BridgeFDB) device() LinkKey { return LinkKey{Fabric, f.Dev} }

// Neigh is a neighbour entry on a VXLAN device, from which the device answers
// ARP requests and neighbour solicitations itself. Permanent, so the kernel
// never asks on the wire: the cluster already knows the answer.
type Neigh struct {
	Dev   string
	Addr  netip.Addr
	MAC   MAC
	Other string // as in Link
}

// neighKey is how the kernel indexes neighbours.
type neighKey struct {
	Dev  string
	Addr netip.Addr
}

// Key is the inner IP address.
func (n Neigh) Key() Key { return neighKey{n.Dev, n.Addr} }

// Rank places entries last: they need their device.
func (n Neigh) Rank() Rank { return RankEntry }

// String is the ip-neighbour(8) command.
func (n Neigh) String() string {
	return fmt.Sprintf("ip -n weft neigh replace %s lladdr %s dev %s nud permanent protocol %d%s",
		n.Addr, n.MAC, n.Dev, Protocol, comment(n.Other))
}

// Deletion is the command that removes the entry.
func (n Neigh) Deletion() string { return fmt.Sprintf("ip -n weft neigh del %s dev %s", n.Addr, n.Dev) }

func (n Neigh) device() LinkKey { return LinkKey{Fabric, n.Dev} }
