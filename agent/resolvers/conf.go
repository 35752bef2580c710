package resolvers

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
)

// Servers are the nameservers of a resolv.conf(5); none when it cannot be
// read.
func Servers(path string) []netip.Addr {
	var out []netip.Addr
	for _, f := range lines(path, "nameserver") {
		if a, err := netip.ParseAddr(f); err == nil {
			out = append(out, a.WithZone(""))
		}
	}
	return out
}

// SearchDomains are the search list of a resolv.conf(5).
func SearchDomains(path string) []string { return lines(path, "search") }

func lines(path, keyword string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []string
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == keyword {
			out = append(out, f[1:]...)
		}
	}
	return out
}
