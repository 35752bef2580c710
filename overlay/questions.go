package overlay

import "net/netip"

// Questions is which questions for names are answered on this host although
// they are not asked at a gateway address. The zero value is none.
type Questions struct {
	// Redirected are DNS servers elsewhere, sorted: what endpoints ask them
	// goes to RedirectPort of the gateway port instead.
	Redirected []netip.Addr
	// All redirects what endpoints ask any DNS server outside their network.
	All bool
	// Address makes DNSAddr an address of this host.
	Address bool
}

// DNSAddr is an address of every host that wants it, for the programs of that
// host alone: it is on lo, no packet to it leaves, and none from outside is let
// in. Link-local (RFC 3927), so that no network of anybody's has it.
var DNSAddr = netip.AddrFrom4([4]byte{169, 254, 53, 53})

// RedirectPort is where redirected questions arrive, UDP and TCP, at an address
// of the gateway port. It is not 53: the answers to questions at port 53 are not
// tracked, and untracked nothing restores the address that was asked.
const RedirectPort = 4797

// loopback is the device with DNSAddr.
const loopback = "lo"

// questions are the objects of s.Questions that are not rules.
func (b *builder) questions(q Questions) {
	if q.Address {
		b.add(Addr{Dev: loopback, Prefix: single(DNSAddr)})
	}
}

// questions are the elements of s.Questions. Bridges are the devices behind
// which only programs of this host are.
func (f *filter) questions(q Questions, bridges []string) {
	if q.All {
		f.add(NFElement{Place: Host, Set: "dns_hijack4", Addr: netip.PrefixFrom(netip.IPv4Unspecified(), 0)})
		f.add(NFElement{Place: Host, Set: "dns_hijack6", Addr: netip.PrefixFrom(netip.IPv6Unspecified(), 0)})
	} else {
		for _, a := range q.Redirected {
			f.add(NFElement{Place: Host, Set: "dns_hijack" + version(a), Addr: single(a)})
		}
	}
	if q.Address {
		for _, dev := range bridges {
			f.add(NFElement{Place: Host, Set: "dns_bridges", Dev: dev})
		}
	}
}
