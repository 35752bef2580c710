package linux

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// attributes walks the attributes in b and stops at the first malformed one.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < unix.SizeofRtAttr || size > len(b) || !yield(typ, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// The values of attributes; a short one reads as zero.

func asU8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func asU16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(b)
}

func asBE16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func asU32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func asString(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

func asAddr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
