package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// fold makes names comparable: ASCII lower case, no trailing dot. The root is
// the empty string. Bytes outside ASCII reach us escaped (RFC 4343, section
// 2.1), so no other letter can be folded by mistake.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// cut removes domain from the end of a folded name: "web.blue.weft.internal"
// gives "web.blue", the domain itself gives "". An empty domain holds nothing.
func cut(name, domain string) (rest string, under bool) {
	if domain == "" {
		return "", false
	}
	if name == domain {
		return "", true
	}
	rest, under = strings.CutSuffix(name, domain)
	if !under || !strings.HasSuffix(rest, ".") || strings.HasSuffix(rest, `\.`) {
		return "", false
	}
	return rest[:len(rest)-1], true
}

// cutLast splits off the last label: "a.b.blue" gives "a.b" and "blue"; a
// single label gives "" and itself.
func cutLast(name string) (rest, label string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// maxLabel is the longest label in bytes (RFC 1035, section 2.3.4).
const maxLabel = 63

// maxRelative bounds a name within its network, so that network and domain fit
// behind it (255 bytes in all).
const maxRelative = 150

// Servable reports whether an endpoint's name or alias can be asked for: labels of
// letters, digits, "-" and "_", at most 63 bytes each. What cannot is left out of
// every answer.
func Servable(name string) bool { return servable(fold(name)) }

// NeverAsked says what programs take a name for, so that they ask no server for it;
// empty: they ask. libc reads 123 and 0x10 as inet_aton(3) does, and knows localhost.
func NeverAsked(name string) string {
	switch name = fold(name); {
	case numeric(name):
		return "an address"
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return "the loopback address" // RFC 6761, section 6.3
	}
	return ""
}

// numeric reports whether inet_aton(3) reads a name.
func numeric(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) > 4 {
		return false
	}
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // the last one has the rest of the address
		}
		digits := strings.Trim(strings.ToLower(part), "0123456789abcdef") == "" || strings.HasPrefix(strings.ToLower(part), "0x")
		if _, err := strconv.ParseUint(part, 0, bits); err != nil || !digits || strings.HasPrefix(strings.ToLower(part), "0b") {
			return false
		}
	}
	return true
}

// servable reports whether a name can be a key: labels of letters, digits, "-"
// and "_". Others cannot be asked for by the libc of any container.
func servable(name string) bool {
	if name == "" || len(name) > maxRelative {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '.' {
			if !labelByte(name[i]) {
				return false
			}
			continue
		}
		if n := i - start; n == 0 || n > maxLabel {
			return false
		}
		start = i + 1
	}
	return true
}

func labelByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || 'A' <= c && c <= 'Z'
}

// reversePrefix reads a folded name under in-addr.arpa or ip6.arpa. A whole
// reverse name gives a single address; a shorter one, which resolvers that
// minimise names ask for on the way down (RFC 9156), gives what it covers.
func reversePrefix(name string) (netip.Prefix, bool) {
	if rest, ok := cut(name, "in-addr.arpa"); ok && rest != "" {
		return reverse4(strings.Split(rest, "."))
	}
	if rest, ok := cut(name, "ip6.arpa"); ok && rest != "" {
		return reverse6(strings.Split(rest, "."))
	}
	return netip.Prefix{}, false
}

func reverse4(labels []string) (netip.Prefix, bool) {
	var a [4]byte
	if len(labels) > len(a) {
		return netip.Prefix{}, false
	}
	slices.Reverse(labels)
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil || len(l) > 1 && l[0] == '0' {
			return netip.Prefix{}, false
		}
		a[i] = byte(n)
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*len(labels)), true
}

func reverse6(labels []string) (netip.Prefix, bool) {
	var a [16]byte
	if len(labels) > 2*len(a) {
		return netip.Prefix{}, false
	}
	slices.Reverse(labels)
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Prefix{}, false
		}
		a[i/2] |= byte(n) << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 4*len(labels)), true
}

// reverseZone names the reverse zone of the subnet that a reverse name lies
// in: its label boundary at or below the prefix length, so that the zone holds
// no address of another subnet. name must cover no more than the subnet.
func reverseZone(name string, subnet netip.Prefix) string {
	per, suffix := 8, 2 // bits a label, labels of "in-addr.arpa"
	if subnet.Addr().Is6() {
		per = 4
	}
	keep := (subnet.Bits()+per-1)/per + suffix
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(0, len(labels)-keep):], ".")
}
