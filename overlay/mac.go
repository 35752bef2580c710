package overlay

import "net"

// String is the address in the usual colon notation.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether m is the all-zero address, which a Linux VXLAN device
// takes for "every destination without an entry of its own".
func (m MAC) IsZero() bool { return m == MAC{} }

// linkMAC is the fixed hardware address of one of our own devices. Passing it
// at creation keeps systemd's MACAddressPolicy away from it. No frame on the
// wire carries it, so it may be the same on every host.
func linkMAC(device byte, vni uint32) MAC {
	return MAC{0x02, 0x4f, device, byte(vni >> 16), byte(vni >> 8), byte(vni)}
}
