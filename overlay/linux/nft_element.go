package linux

import (
	"bytes"
	"cmp"
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
	switch {
	case e.Addr.Addr().Is4():
		types = append(types, "ipv4_addr")
	case e.Addr.Addr().Is6():
		types = append(types, "ipv6_addr")
	}
	return strings.Join(types, " . ")
}

// encodeElement returns the kernel's form: the parts of the key, each padded to
// four bytes, and in an interval set the first address and the one behind the
// last.
func encodeElement(e overlay.NFElement, interval bool) []nftables.SetElement {
	var key []byte
	if e.Dev != "" {
		key = append(key, deviceKey(e.Dev)...)
	}
	if !e.MAC.IsZero() {
		key = append(append(key, e.MAC[:]...), 0, 0)
	}
	if e.Addr.IsValid() {
		key = append(key, e.Addr.Addr().AsSlice()...)
	}
	first := nftables.SetElement{Key: key}
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

// decodeElements is the inverse of encodeElement for all elements of a set. What
// none of ours could be is counted as odd.
func decodeElements(place overlay.Place, set *nftables.Set, elements []nftables.SetElement) (all []overlay.NFElement, odd int) {
	if set.Interval {
		return decodeIntervals(place, set.Name, elements)
	}
	types := strings.Split(set.KeyType.Name, " . ")
	for _, element := range elements {
		e, ok := decodeKey(types, element.Key)
		if !ok {
			odd++
			continue
		}
		e.Place, e.Set = place, set.Name
		all = append(all, e)
	}
	return all, odd
}

func decodeKey(types []string, key []byte) (e overlay.NFElement, ok bool) {
	for _, typ := range types {
		size := int(keyTypes[typ].Bytes)
		if size == 0 || len(key) < size {
			return overlay.NFElement{}, false
		}
		switch part := key[:size]; typ {
		case "ifname":
			e.Dev = deviceName(part)
		case "ether_addr":
			e.MAC = overlay.MAC(part)
		default:
			a, _ := netip.AddrFromSlice(part)
			e.Addr = netip.PrefixFrom(a, a.BitLen())
		}
		key = key[min(4*words(size), len(key)):]
	}
	return e, true
}

// decodeIntervals joins the first address of each interval with the next end.
func decodeIntervals(place overlay.Place, set string, elements []nftables.SetElement) (all []overlay.NFElement, odd int) {
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
			odd++
			continue
		}
		all = append(all, overlay.NFElement{Place: place, Set: set, Addr: p})
	}
	return all, odd
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
