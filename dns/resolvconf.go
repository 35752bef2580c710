package dns

import (
	"bytes"
	"net/netip"
	"os"

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
	c, err := miekg.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return ResolvConf{}, err
	}
	out := ResolvConf{Search: c.Search}
	for _, server := range c.Servers {
		if a, err := netip.ParseAddr(server); err == nil {
			out.Servers = append(out.Servers, a.Unmap())
		}
	}
	return out, nil
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
