package table

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/discovery"
)

// Tags of a header's fields, and of those inside them.
const (
	tagNonce = iota + 1
	tagHostName
	tagAgentVersion
	tagFormatMin
	tagFormatMax
	tagVTEP
	tagTunnelPort
	tagWireGuard
	tagMTU
	tagAvoid
	_ // 11 was the version of a key, which was never set
	tagGoneHash
	tagHeaderFlags
	tagHeaderNetwork
	tagLink
	tagHeaderAddr
)

const (
	tagWGKey = iota + 1
	tagWGAddr
	tagWGEndpoint
)

const (
	tagNetVNI = iota + 1
	tagNetID
	tagNetBlock
)

func appendHeader(b []byte, h discovery.Header) []byte {
	b = appendFixed64(b, tagNonce, h.Nonce)
	b = appendBytes(b, tagHostName, h.Name)
	b = appendBytes(b, tagAgentVersion, h.Version)
	b = appendUint(b, tagFormatMin, uint64(h.FormatMin))
	b = appendUint(b, tagFormatMax, uint64(h.FormatMax))
	b = appendAddr(b, tagVTEP, h.VTEP)
	b = appendUint(b, tagTunnelPort, uint64(h.TunnelPort))
	if h.WG != nil {
		w := appendBytes(nil, tagWGKey, h.WG.Key[:])
		w = appendAddr(w, tagWGAddr, h.WG.IP)
		b = appendBytes(b, tagWireGuard, appendAddrPort(w, tagWGEndpoint, h.WG.Endpoint))
	}
	b = appendUint(b, tagMTU, uint64(h.MTU))
	for _, p := range h.Avoid {
		b = appendPrefix(b, tagAvoid, p)
	}
	b = appendFixed64(b, tagGoneHash, h.GoneHash)
	b = appendUint(b, tagHeaderFlags, uint64(h.Flags))
	for _, n := range h.Networks {
		b = appendBytes(b, tagHeaderNetwork, appendHeaderNetwork(nil, n))
	}
	b = appendUint(b, tagLink, uint64(h.Link))
	for _, a := range h.Addrs {
		b = appendAddr(b, tagHeaderAddr, a)
	}
	return append(b, h.Unknown...)
}

func appendHeaderNetwork(b []byte, n discovery.HeaderNetwork) []byte {
	b = appendUint(b, tagNetVNI, uint64(n.VNI))
	b = appendBytes(b, tagNetID, n.ID[:])
	for _, p := range n.Blocks {
		b = appendPrefix(b, tagNetBlock, p)
	}
	return b
}

// appendFixed64 writes a number whose bits are all in use, such as a hash, in
// eight bytes where a uvarint takes ten.
func appendFixed64(b []byte, tag, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendBytes(b, tag, binary.BigEndian.AppendUint64(nil, v))
}

func (f field) fixed64() (uint64, error) {
	var b [8]byte
	err := f.into(b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

func parseHeader(b []byte) (discovery.Header, error) {
	var h discovery.Header
	var err error
	h.Unknown, err = fields(b, "header", func(f field) (bool, error) { return parseHeaderField(&h, f) })
	return h, err
}

func parseHeaderField(h *discovery.Header, f field) (known bool, err error) {
	var n uint64
	switch f.tag {
	case tagNonce:
		h.Nonce, err = f.fixed64()
	case tagHostName:
		h.Name = string(f.bytes)
	case tagAgentVersion:
		h.Version = string(f.bytes)
	case tagFormatMin:
		n, err = f.upTo(math.MaxUint8)
		h.FormatMin = uint8(n)
	case tagFormatMax:
		n, err = f.upTo(math.MaxUint8)
		h.FormatMax = uint8(n)
	case tagVTEP:
		h.VTEP, err = f.addr()
	case tagTunnelPort:
		n, err = f.upTo(math.MaxUint16)
		h.TunnelPort = uint16(n)
	case tagWireGuard:
		h.WG, err = parseWireGuard(f.bytes)
	case tagMTU:
		n, err = f.upTo(math.MaxUint16)
		h.MTU = uint16(n)
	case tagLink:
		n, err = f.upTo(math.MaxUint16)
		h.Link = uint16(n)
	case tagAvoid:
		var p netip.Prefix
		p, err = f.prefix()
		h.Avoid = append(h.Avoid, p)
	case tagGoneHash:
		h.GoneHash, err = f.fixed64()
	case tagHeaderFlags:
		n, err = f.upTo(math.MaxUint32)
		h.Flags = discovery.HeaderFlags(n)
	case tagHeaderNetwork:
		var hn discovery.HeaderNetwork
		hn, err = parseHeaderNetwork(f.bytes)
		h.Networks = append(h.Networks, hn)
	case tagHeaderAddr:
		var a netip.Addr
		a, err = f.addr()
		h.Addrs = append(h.Addrs, a)
	default:
		return false, nil
	}
	return true, err
}

func parseWireGuard(b []byte) (*discovery.WireGuard, error) {
	w := &discovery.WireGuard{}
	_, err := fields(b, "wireguard", func(f field) (bool, error) {
		var err error
		switch f.tag {
		case tagWGKey:
			err = f.into(w.Key[:])
		case tagWGAddr:
			w.IP, err = f.addr()
		case tagWGEndpoint:
			w.Endpoint, err = f.addrPort()
		}
		return true, err
	})
	return w, err
}

func parseHeaderNetwork(b []byte) (n discovery.HeaderNetwork, err error) {
	_, err = fields(b, "network", func(f field) (bool, error) {
		var err error
		switch f.tag {
		case tagNetVNI:
			var v uint64
			v, err = f.upTo(math.MaxUint32)
			n.VNI = uint32(v)
		case tagNetID:
			err = f.into(n.ID[:])
		case tagNetBlock:
			var p netip.Prefix
			p, err = f.prefix()
			n.Blocks = append(n.Blocks, p)
		}
		return true, err
	})
	return n, err
}

// clone returns a header that shares nothing with h.
func cloneHeader(h discovery.Header) discovery.Header {
	if h.WG != nil {
		w := *h.WG
		h.WG = &w
	}
	h.Avoid = slices.Clone(h.Avoid)
	h.Addrs = slices.Clone(h.Addrs)
	h.Networks = slices.Clone(h.Networks)
	for i := range h.Networks {
		h.Networks[i].Blocks = slices.Clone(h.Networks[i].Blocks)
	}
	h.Unknown = bytes.Clone(h.Unknown)
	return h
}

// normal returns the header as it comes back from the wire.
func normalHeader(h discovery.Header) discovery.Header {
	h = cloneHeader(h)
	h.VTEP = unmap(h.VTEP)
	h.Avoid = cloneOrNil(h.Avoid)
	h.Addrs = cloneOrNil(h.Addrs)
	for i, a := range h.Addrs {
		h.Addrs[i] = unmap(a)
	}
	h.Networks = cloneOrNil(h.Networks)
	slices.SortFunc(h.Networks, func(a, b discovery.HeaderNetwork) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), bytes.Compare(a.ID[:], b.ID[:]))
	})
	for i := range h.Networks {
		n := &h.Networks[i]
		n.Blocks = cloneOrNil(n.Blocks)
		slices.SortFunc(n.Blocks, netip.Prefix.Compare)
	}
	return h
}
