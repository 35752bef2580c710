package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/weft-net/weft/overlay"
)

func ethernet(dst, src overlay.MAC, protocol uint16, payload []byte) []byte {
	frame := append(append([]byte{}, dst[:]...), src[:]...)
	return append(binary.BigEndian.AppendUint16(frame, protocol), payload...)
}

// ipv4 is a packet with room for a mark behind its payload (RFC 791).
func ipv4(src, dst netip.Addr, protocol byte, payload []byte) []byte {
	payload = append(payload, make([]byte, max(0, 26-len(payload)))...)
	h := make([]byte, 20, 20+len(payload))
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(h, payload...)
}

func ipv6(src, dst netip.Addr, protocol byte, payload []byte) []byte {
	payload = append(payload, make([]byte, max(0, 26-len(payload)))...)
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, protocol, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, payload...)
}

// icmp6 is a neighbour discovery message about an address (RFC 4861, section 4).
func icmp6(typ byte, target netip.Addr) []byte {
	return append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

// arp is a request (RFC 826).
func arp(sender overlay.MAC, from, target netip.Addr) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, sender[:]...)
	b = append(b, from.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(append(b, target.AsSlice()...), make([]byte, 18)...)
}
