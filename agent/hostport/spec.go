// Package hostport publishes ports of this host: it reads what a user asks for,
// chooses a port, and holds it with a socket for as long as it leads to an
// endpoint. The translation itself is the overlay's.
package hostport

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/overlay"
)

// Spec is a port to be published, as the user asked for it.
type Spec struct {
	proto       uint8
	addr        netip.Addr // of the host, IPv4; zero: every one
	first, last uint16     // of the host, of which one is chosen; 0: any free one
	port        uint16     // of the endpoint
}

func (p Spec) String() string {
	text := "any port"
	switch {
	case p.first != p.last:
		text = fmt.Sprintf("ports %d-%d", p.first, p.last)
	case p.first != 0:
		text = fmt.Sprintf("port %d", p.first)
	}
	text += "/" + protocols[p.proto]
	if p.addr.IsValid() {
		text += " of " + p.addr.String()
	}
	return text
}

// Met reports whether a published port is one that the spec asks for.
func (p Spec) Met(by overlay.Publish) bool {
	return by.Proto == p.proto && by.HostAddr == p.addr && by.Port == p.port &&
		(p.first == 0 || p.first <= by.HostPort && by.HostPort <= p.last)
}

var protocols = map[uint8]string{syscall.IPPROTO_TCP: "tcp", syscall.IPPROTO_UDP: "udp"}

// Parse reads Docker's notation: [IP:][8080[-8082]:]80[-82][/udp].
func Parse(texts []string) (all []Spec, err error) {
	for _, text := range texts {
		specs, why := parsePort(text)
		if why != "" {
			return nil, api.Errorf(api.KindMisuse, "-p %q: %s", text, why).
				WithHint("agentctl attach --help # -p [IP:]8080:80[/udp], -p 8080-8082:80-82, or -p 80 for any free port")
		}
		all = append(all, specs...)
	}
	return all, nil
}

func parsePort(text string) (all []Spec, why string) {
	rest, proto, _ := strings.Cut(text, "/")
	spec := Spec{}
	switch strings.ToLower(proto) {
	case "", "tcp":
		spec.proto = syscall.IPPROTO_TCP
	case "udp":
		spec.proto = syscall.IPPROTO_UDP
	default:
		return nil, "only tcp and udp can be published"
	}
	rest, inside := cutLast(rest)
	addr, outside := cutLast(rest)
	if addr = strings.Trim(addr, "[]"); addr != "" {
		a, err := netip.ParseAddr(addr)
		switch {
		case err != nil:
			return nil, fmt.Sprintf("%q is no IP address", addr)
		case !a.Is4():
			return nil, "only IPv4 addresses of the host; without one, clients over IPv6 are served too (TCP)"
		case !a.IsUnspecified():
			spec.addr = a
		}
	}
	first, last, ok := portRange(inside)
	if !ok || first == 0 {
		return nil, fmt.Sprintf("%q is no port of the endpoint", inside)
	}
	from, to, ok := portRange(outside)
	if outside != "" && !ok {
		return nil, fmt.Sprintf("%q is no port of the host", outside)
	}
	one := from != to && to-from != last-first // of the host's range one is chosen
	if one && first != last {
		return nil, "the two ranges differ in length"
	}
	for i := range int(last-first) + 1 {
		s := spec
		s.port, s.first, s.last = first+uint16(i), from, to
		if from != 0 && !one {
			s.first = from + uint16(i)
			s.last = s.first
		}
		all = append(all, s)
	}
	if from != 0 && from == to && first != last {
		return nil, "the two ranges differ in length"
	}
	return all, ""
}

// cutLast cuts at the last colon outside brackets; without one before is empty.
func cutLast(s string) (before, after string) {
	if strings.HasSuffix(s, "]") {
		return s, ""
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

func portRange(s string) (first, last uint16, ok bool) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	x, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	y, err := strconv.ParseUint(b, 10, 16)
	if err != nil || y < x || isRange && x == 0 {
		return 0, 0, false
	}
	return uint16(x), uint16(y), true
}
