package strict

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/discovery"
)

func TestEndpointsThatNoMemberMayAnnounce(t *testing.T) {
	blue := discovery.Network{Name: "blue", Subnets: []discovery.Subnet{{CIDR: netip.MustParsePrefix("10.70.0.0/24"),
		Gateway: netip.MustParseAddr("10.70.0.1"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.70.0.9")}}}}
	good := func() discovery.Endpoint {
		return discovery.Endpoint{IPv4: netip.MustParseAddr("10.70.0.5"), MAC: discovery.MAC{2, 0, 0, 0, 0, 5}, Name: "web", Aliases: []string{"www.example"}}
	}
	at := func(a string) func(*discovery.Endpoint) {
		return func(e *discovery.Endpoint) { e.IPv4 = netip.MustParseAddr(a) }
	}
	for name, change := range map[string]func(*discovery.Endpoint){
		"the gateway":            at("10.70.0.1"),
		"the network address":    at("10.70.0.0"),
		"the broadcast address":  at("10.70.0.255"),
		"an auxiliary address":   at("10.70.0.9"),
		"a resolver elsewhere":   at("8.8.8.8"),
		"another subnet":         at("10.70.1.5"),
		"loopback":               at("127.0.0.1"),
		"multicast":              at("224.0.0.1"),
		"unspecified":            at("0.0.0.0"),
		"every host":             at("255.255.255.255"),
		"IPv6 for IPv4":          at("2001:db8::5"),
		"IPv4 in IPv6":           at("::ffff:10.70.0.5"),
		"no address":             func(e *discovery.Endpoint) { e.IPv4 = netip.Addr{} },
		"IPv4 as IPv6":           func(e *discovery.Endpoint) { e.IPv6 = netip.MustParseAddr("10.70.0.6") },
		"IPv6 out of the subnet": func(e *discovery.Endpoint) { e.IPv6 = netip.MustParseAddr("2001:db8::6") },
		"the broadcast MAC":      func(e *discovery.Endpoint) { e.MAC = discovery.MAC{255, 255, 255, 255, 255, 255} },
		"a multicast MAC":        func(e *discovery.Endpoint) { e.MAC = discovery.MAC{1, 0, 0x5e, 0, 0, 1} },
		"no MAC":                 func(e *discovery.Endpoint) { e.MAC = discovery.MAC{} },
		"a name of two lines":    func(e *discovery.Endpoint) { e.Name = "web\nnameserver 192.0.2.66" },
		"an endless name":        func(e *discovery.Endpoint) { e.Name = strings.Repeat("w", 254) },
		"an alias with a space":  func(e *discovery.Endpoint) { e.Aliases = []string{"a b"} },
		"an alias in colour":     func(e *discovery.Endpoint) { e.Aliases = []string{"\x1b[31m"} },
		"a runtime in colour":    func(e *discovery.Endpoint) { e.Runtime = "\x1b[31m" },
		"too many aliases":       func(e *discovery.Endpoint) { e.Aliases = make([]string, 129) },
		"much that is not known": func(e *discovery.Endpoint) { e.Unknown = make([]byte, 1025) },
	} {
		e := good()
		change(&e)
		err := Announced(e)
		if err == nil {
			err = Endpoint(blue, e) // its network says no
		}
		if err == nil {
			t.Errorf("%s: %+v may be announced", name, e)
		}
	}
	if e := good(); Announced(e) != nil || Endpoint(blue, e) != nil {
		t.Errorf("%v, %v: want an endpoint as any", Announced(e), Endpoint(blue, e))
	}
}

func TestOfAHeaderTheRestIsBelieved(t *testing.T) {
	good := func() discovery.Header {
		return discovery.Header{Name: "h1", Version: "v0.2.0", VTEP: netip.MustParseAddr("192.0.2.1"), MTU: 1500,
			Avoid:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Addrs:    []netip.Addr{netip.MustParseAddr("203.0.113.1")},
			Networks: []discovery.HeaderNetwork{{VNI: 4096, Blocks: []netip.Prefix{netip.MustParsePrefix("10.70.0.0/28")}}}}
	}
	at := func(a string) func(*discovery.Header) {
		return func(h *discovery.Header) { h.VTEP = netip.MustParseAddr(a) }
	}
	noVTEP := func(h discovery.Header) bool { return !h.VTEP.IsValid() && h.MTU == 1500 && len(h.Networks) == 1 }
	for name, c := range map[string]struct {
		change func(*discovery.Header)
		kept   func(discovery.Header) bool
	}{
		"a loopback VTEP":    {at("127.0.0.1"), noVTEP},
		"a multicast VTEP":   {at("224.0.0.1"), noVTEP},
		"a broadcast VTEP":   {at("255.255.255.255"), noVTEP},
		"a link-local VTEP":  {at("fe80::1"), noVTEP},
		"an MTU for modems":  {func(h *discovery.Header) { h.MTU = 576 }, func(h discovery.Header) bool { return h.MTU == 0 && h.VTEP.IsValid() }},
		"all is avoided":     {func(h *discovery.Header) { h.Avoid = append(h.Avoid, netip.MustParsePrefix("0.0.0.0/1")) }, func(h discovery.Header) bool { return len(h.Avoid) == 1 && h.VTEP.IsValid() }},
		"endless avoidance":  {func(h *discovery.Header) { h.Avoid = make([]netip.Prefix, 4097) }, func(h discovery.Header) bool { return len(h.Avoid) == 0 && h.VTEP.IsValid() }},
		"a VNI of 25 bits":   {func(h *discovery.Header) { h.Networks[0].VNI = 1 << 24 }, func(h discovery.Header) bool { return len(h.Networks) == 0 && h.VTEP.IsValid() }},
		"VNI 0":              {func(h *discovery.Header) { h.Networks[0].VNI = 0 }, func(h discovery.Header) bool { return len(h.Networks) == 0 && h.VTEP.IsValid() }},
		"endless blocks":     {func(h *discovery.Header) { h.Networks[0].Blocks = make([]netip.Prefix, 65537) }, func(h discovery.Header) bool { return len(h.Networks) == 0 && h.VTEP.IsValid() }},
		"a loopback address": {func(h *discovery.Header) { h.Addrs[0] = netip.MustParseAddr("127.0.0.1") }, func(h discovery.Header) bool { return len(h.Addrs) == 0 && h.VTEP.IsValid() }},
		"endless addresses":  {func(h *discovery.Header) { h.Addrs = slices.Repeat(h.Addrs, 65) }, func(h discovery.Header) bool { return len(h.Addrs) == 0 && h.VTEP.IsValid() }},
		"a name in colour":   {func(h *discovery.Header) { h.Name = "\x1b[31m" }, func(h discovery.Header) bool { return h.Name == "" && h.VTEP.IsValid() }},
	} {
		h := good()
		c.change(&h)
		if got, err := Header(h); err == nil || !c.kept(got) {
			t.Errorf("%s: believed %+v, %v", name, got, err)
		}
	}
	if got, err := Header(good()); err != nil || got.MTU != 1500 || !got.VTEP.IsValid() || len(got.Networks) != 1 || len(got.Avoid) != 1 || len(got.Addrs) != 1 {
		t.Errorf("a header as any: %+v, %v", got, err)
	}
}

// What a host's devices have is announced as far as others believe it.
func TestAddressesOfAHostAreBelieved(t *testing.T) {
	all := []netip.Addr{netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("169.254.53.53")}
	for i := range 2 * mostAddrs {
		a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		all = append(all, a, a)
	}
	got := Addresses(all)
	if len(got) != mostAddrs || !slices.IsSortedFunc(got, netip.Addr.Compare) || slices.ContainsFunc(got, netip.Addr.IsLinkLocalUnicast) {
		t.Errorf("announced: %v", got)
	}
	if h, err := Header(discovery.Header{Addrs: got}); err != nil || len(h.Addrs) != mostAddrs {
		t.Errorf("believed: %v, %v", h.Addrs, err)
	}
}
