package overlay_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// A remote endpoint becomes one neighbour entry and one FDB entry. Set again with an
// equal state changes nothing.
func ExampleOverlay_Set() {
	kernel := overlaytest.New() // prints itself as the commands of iproute2
	o := overlay.New(kernel, "weft", slog.New(slog.DiscardHandler))
	state := overlay.State{
		Cluster: "c1", VTEP: netip.MustParseAddr("192.0.2.1"), Port: 4799, Complete: true,
		Members: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		Networks: []overlay.Network{{
			VNI: 0x1000, ID: "n1", Name: "blue", MTU: 1450, GatewayMAC: overlay.MAC{0x0a, 1},
			Subnets: []overlay.Subnet{{CIDR: netip.MustParsePrefix("10.64.0.0/20"), Gateway: netip.MustParseAddr("10.64.0.1")}},
			Remotes: []overlay.Remote{{Addr: netip.MustParseAddr("10.64.0.5"), MAC: overlay.MAC{0x0e, 0, 10, 64, 0, 5}, VTEP: netip.MustParseAddr("192.0.2.2")}},
		}},
	}
	if err := o.Set(context.Background(), state); err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(kernel.String()) {
		if strings.Contains(line, "0e:00:0a:40:00:05") {
			fmt.Print(line)
		}
	}
	// Output:
	// bridge -n weft fdb replace 0e:00:0a:40:00:05 dev v001000 dst 192.0.2.2 self permanent
	// ip -n weft neigh replace 10.64.0.5 lladdr 0e:00:0a:40:00:05 dev v001000 nud permanent protocol 79
}
