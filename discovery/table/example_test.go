package table_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// Two hosts meet; one announces an endpoint, and the other one's view shows it.
// The loop in the middle stands for the network: whatever an exchange wants sent
// is given to the exchange of the other host.
func Example() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	alpha, beta := discovery.HostID{1}, discovery.HostID{2}
	tables := map[discovery.HostID]*table.Table{}
	exchanges := map[discovery.HostID]*table.Exchange{}
	for id, name := range map[discovery.HostID]string{alpha: "alpha", beta: "beta"} {
		t, err := table.New(table.Config{Self: id, Header: discovery.Header{Name: name}, Now: now})
		if err != nil {
			fmt.Println(err)
			return
		}
		tables[id], exchanges[id] = t, table.NewExchange(t, 1, 1)
	}

	tables[alpha].SetMember(now, beta, netip.MustParseAddrPort("192.0.2.2:4798"), discovery.StatusAlive)
	tables[beta].SetMember(now, alpha, netip.MustParseAddrPort("192.0.2.1:4798"), discovery.StatusAlive)
	exchanges[beta].Compare(alpha)
	tables[alpha].Announce([]discovery.Endpoint{{ID: discovery.EndpointID{7}, Name: "web",
		IPv4: netip.MustParseAddr("198.51.100.2"), MAC: discovery.MAC{2, 0, 0, 0, 0, 7}}}, nil)

	for range 100 {
		now = now.Add(10 * time.Millisecond)
		for _, x := range exchanges {
			x.Tick(now)
			x.Flush()
			for _, p := range x.Take() {
				if _, err := exchanges[p.To].Receive(now, p.Body); err != nil {
					fmt.Println(err)
				}
			}
		}
	}

	view := tables[beta].View()
	for _, r := range view.Endpoints {
		fmt.Printf("%s at %s is %s\n", r.Name, r.IPv4, r.Status)
	}
	fmt.Println("complete:", view.Complete, "equal:", tables[alpha].Root() == tables[beta].Root())
	// Output:
	// web at 198.51.100.2 is live
	// complete: true equal: true
}
