package dns_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/dns"
)

// A server that is handed a zone answers as each asker sees it: endpoints of two
// networks may have one name.
func ExampleServer() {
	endpoint := netip.MustParseAddr("192.0.2.10")
	s := dns.New(dns.Config{})
	s.Set(dns.Zone{
		Domain: "weft.internal", Complete: true,
		Networks: []dns.Network{ // without a Device: nothing is listened on
			{Name: "blue", Names: []dns.Name{{Name: "web", Aliases: []string{"www"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}}},
			{Name: "green", Names: []dns.Name{{Name: "web", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}}}},
		},
		Clients: []dns.Client{
			{Device: "g001000", Addr: endpoint, Networks: []string{"blue"}},
			{Device: "g001001", Addr: endpoint, Networks: []string{"green"}},
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()

	for _, device := range []string{"g001000", "g001001"} {
		for _, name := range []string{"web", "www.blue.weft.internal"} {
			a, err := s.Resolve(ctx, name, "A", dns.Scope{Client: dns.Client{Device: device, Addr: endpoint}})
			fmt.Println(device, name, a.Rcode, a.Values, err)
		}
	}
	cancel()
	fmt.Println(<-ended)
	// Output:
	// g001000 web NOERROR [192.0.2.7] <nil>
	// g001000 www.blue.weft.internal NOERROR [192.0.2.7] <nil>
	// g001001 web NOERROR [198.51.100.7] <nil>
	// g001001 www.blue.weft.internal NXDOMAIN [] <nil>
	// <nil>
}
