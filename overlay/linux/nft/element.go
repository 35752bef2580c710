package nft

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/weft-net/weft/overlay"
)

// typeOf is the type of the set that an element fits in.
func typeOf(e overlay.NFElement) string {
	var types []string
	if e.Dev != "" {
		types = append(types, "ifname")
	}
	if !e.MAC.IsZero() {
		types = append(types, "ether_addr")
	}
	if e.Proto != 0 {
		types = append(types, "inet_proto")
	}
	switch {
	case e.Addr.Addr().Is4():
		types = append(types, "ipv4_addr")
	case e.Addr.Addr().Is6():
		types = append(types, "ipv6_addr")
	}
	if e.Port != 0 {
		types = append(types, "inet_service")
	}
	return strings.Join(types, " . ")
}

// dataOf is the type of what a map holds under the element's key.
func dataOf(e overlay.NFElement) string {
	if e.ToAddr.Is4() {
		return "ipv4_addr . inet_service"
	}
	return ""
}

// encodeElement returns the kernel's form: the parts of the key, each padded to
// four bytes unless it is alone, and in an interval set the first address and the one behind the
// last.
func encodeElement(e overlay.NFElement, interval bool) []nftables.SetElement {
	var key []byte
	if e.Dev != "" {
		key = append(key, deviceKey(e.Dev)...)
	}
	if !e.MAC.IsZero() {
		key = append(append(key, e.MAC[:]...), 0, 0)
	}
	if e.Proto != 0 {
		key = append(key, e.Proto, 0, 0, 0)
	}
	if e.Addr.IsValid() {
		key = append(key, e.Addr.Addr().AsSlice()...)
	}
	if e.Port != 0 {
		if key = binary.BigEndian.AppendUint16(key, e.Port); len(key) > 2 {
			key = append(key, 0, 0)
		}
	}
	first := nftables.SetElement{Key: key}
	if e.ToAddr.Is4() {
		first.Val = append(binary.BigEndian.AppendUint16(e.ToAddr.AsSlice(), e.ToPort), 0, 0)
	}
	if !interval {
		return []nftables.SetElement{first}
	}
	end := behind(e.Addr)
	if !end.IsValid() { // the last address there is: the interval stays open
		return []nftables.SetElement{first}
	}
	return []nftables.SetElement{first, {Key: end.AsSlice(), IntervalEnd: true}}
}

// behind is the address after a prefix, invalid after the last one.
func behind(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(last); i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	return a.Next()
}

// decodeElements is the inverse of encodeElement for all elements of a set. An
// element that weft could not have made is counted as unsupported.
func decodeElements(place overlay.Place, set *nftables.Set, elements []nftables.SetElement) (all []overlay.NFElement, unsupported int) {
	if set.Interval {
		return decodeIntervals(place, set.Name, elements)
	}
	types := nftables.ConcatSetTypeElements(set.KeyType)
	for _, element := range elements {
		e, ok := decodeKey(types, element.Key)
		if set.IsMap && ok {
			ok = decodeValue(&e, element.Val)
		}
		if !ok {
			unsupported++
			continue
		}
		e.Place, e.Set = place, set.Name
		all = append(all, e)
	}
	return all, unsupported
}

// decodeValue reads what a map holds.
func decodeValue(e *overlay.NFElement, value []byte) bool {
	if len(value) < 6 {
		return false
	}
	e.ToAddr, _ = netip.AddrFromSlice(value[:4])
	e.ToPort = binary.BigEndian.Uint16(value[4:])
	return true
}

func decodeKey(types []nftables.SetDatatype, key []byte) (e overlay.NFElement, ok bool) {
	for _, typ := range types {
		size := int(typ.Bytes)
		if size == 0 || len(key) < size {
			return overlay.NFElement{}, false
		}
		switch part := key[:size]; typ.Name {
		case "ifname":
			e.Dev = deviceName(part)
		case "ether_addr":
			e.MAC = overlay.MAC(part)
		case "inet_proto":
			e.Proto = part[0]
		case "inet_service":
			e.Port = binary.BigEndian.Uint16(part)
		case "ipv4_addr", "ipv6_addr":
			a, _ := netip.AddrFromSlice(part)
			e.Addr = netip.PrefixFrom(a, a.BitLen())
		default:
			return overlay.NFElement{}, false
		}
		key = key[min((size+3)/4*4, len(key)):]
	}
	return e, true
}

const ifnameSize = 16 // IFNAMSIZ (linux/if.h)

func deviceKey(name string) []byte {
	return append([]byte(name), make([]byte, ifnameSize-len(name))...)
}

func deviceName(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}

// decodeIntervals joins the first address of each interval with the next end.
func decodeIntervals(place overlay.Place, set string, elements []nftables.SetElement) (all []overlay.NFElement, unsupported int) {
	slices.SortFunc(elements, func(a, b nftables.SetElement) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), endFirst(a)-endFirst(b))
	})
	for i, first := range elements {
		if first.IntervalEnd {
			continue
		}
		from, _ := netip.AddrFromSlice(first.Key)
		var end netip.Addr
		if i+1 < len(elements) {
			end, _ = netip.AddrFromSlice(elements[i+1].Key)
		}
		p, ok := prefixOf(from, end)
		if !ok {
			unsupported++
			continue
		}
		all = append(all, overlay.NFElement{Place: place, Set: set, Addr: p})
	}
	return all, unsupported
}

func endFirst(e nftables.SetElement) int {
	if e.IntervalEnd {
		return 0
	}
	return 1
}

// prefixOf returns the prefix that begins at from and ends before end.
func prefixOf(from, end netip.Addr) (netip.Prefix, bool) {
	for bits := 0; bits <= from.BitLen(); bits++ {
		if p := netip.PrefixFrom(from, bits); p.Masked().Addr() == from && behind(p) == end {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func misfit(e overlay.NFElement, typ string) error {
	return fmt.Errorf("set %s holds %s, not %s", e.Set, typ, typeOf(e))
}
