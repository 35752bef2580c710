package resolvers

import (
	"net/netip"

	"github.com/weft-net/weft/dns"
)

// Servers are the nameservers of a resolv.conf(5), without zones; none when it
// cannot be read.
func Servers(path string) []netip.Addr {
	c, err := dns.ReadResolvConf(path)
	if err != nil {
		return nil
	}
	for i, a := range c.Servers {
		c.Servers[i] = a.WithZone("")
	}
	return c.Servers
}

// SearchDomains are the search list of a resolv.conf(5); none when it cannot be
// read.
func SearchDomains(path string) []string {
	c, err := dns.ReadResolvConf(path)
	if err != nil {
		return nil
	}
	return c.Search
}
