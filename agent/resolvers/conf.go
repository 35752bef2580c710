package resolvers

import (
	"errors"
	"net/netip"
	"os"

	"github.com/weft-net/weft/dns"
)

// HostConf is the file that programs read (resolv.conf(5)), and that ip-netns(8) binds
// the file of a namespace over.
const HostConf = "/etc/resolv.conf"

// Missing says which file is not there when a program opens path; empty: path is.
func Missing(path string) string {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if to, err := os.Readlink(path); err == nil {
		return path + " is a link to " + to + ", which is missing"
	}
	return path + " is missing"
}

// Servers are the nameservers of a resolv.conf(5), without zones; none when it
// cannot be read.
func Servers(path string) []netip.Addr {
	c, err := dns.ReadResolvConf(path)
	if err != nil {
		return nil
	}
	return withoutZones(c.Servers)
}

func withoutZones(all []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(all))
	for i, a := range all {
		out[i] = a.WithZone("")
	}
	return out
}
