package dns

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"unicode"

	miekg "github.com/miekg/dns"
)

// StubResolvConf is the file in which systemd-resolved lists the servers behind
// its stub (systemd-resolved.service(8)).
const StubResolvConf = "/run/systemd/resolve/resolv.conf"

// ResolvConf is what a resolv.conf(5) says, as far as this module uses it.
type ResolvConf struct {
	// Servers in the order of the file, with a zone where it is written there.
	// IPv4 addresses in IPv6 form are IPv4.
	Servers []netip.Addr
	// Search is the search list: that of the last line with "search" or
	// "domain".
	Search []string
}

// ReadResolvConf reads a file in the format of resolv.conf(5). Lines that make
// no sense are passed over, as libc does. Its error is that of the file, and the
// ResolvConf is zero then.
func ReadResolvConf(file string) (ResolvConf, error) {
	// Whole first: a reader that fails half-way would pass for a shorter file.
	text, err := os.ReadFile(file)
	if err != nil {
		return ResolvConf{}, err
	}
	return parseResolvConf(text)
}

func parseResolvConf(text []byte) (ResolvConf, error) {
	c, err := miekg.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return ResolvConf{}, err
	}
	var out ResolvConf
	for _, server := range c.Servers {
		if a, err := netip.ParseAddr(server); err == nil {
			out.Servers = append(out.Servers, a.Unmap())
		}
	}
	for _, domain := range c.Search {
		if searchable(domain) {
			out.Search = append(out.Search, domain)
		}
	}
	return out, nil
}

// searchable reports whether a domain can stand in the search list of another file: a
// host's file is read by this program, and what it wrote of it by every container's.
func searchable(domain string) bool {
	domain = strings.TrimSuffix(domain, ".")
	if domain == "" || len(domain) > 253 {
		return false
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsGraphic(r) || r == '\\' }) {
			return false
		}
	}
	return true
}

// hostServers reads conf, and stub in its place where conf leads to the stub
// alone: the stub routes names by link, and may route ours back to us.
func hostServers(conf, stub string) ([]netip.AddrPort, error) {
	c, err := ReadResolvConf(conf)
	if err != nil {
		return nil, err
	}
	if onlyStub(c.Servers) {
		if behind, err := ReadResolvConf(stub); err == nil { // else a stub is better than nothing
			c = behind
		}
	}
	servers := make([]netip.AddrPort, len(c.Servers))
	for i, a := range c.Servers {
		servers[i] = netip.AddrPortFrom(a, 53)
	}
	return servers, nil
}

func onlyStub(servers []netip.Addr) bool {
	for _, a := range servers {
		if a != netip.AddrFrom4([4]byte{127, 0, 0, 53}) {
			return false
		}
	}
	return len(servers) > 0
}
