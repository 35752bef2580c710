package nft

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/overlay"
)

// publish makes ports of the host lead to endpoints' port 80, over both
// protocols: 8080 and 8081 on every address, the others on one.
func (l *trafficLab) publish(t testing.TB) {
	t.Helper()
	for i := range l.state.Networks {
		n := &l.state.Networks[i]
		for _, proto := range []uint8{6, 17} {
			to := func(host string, hostPort uint16, last byte) {
				p := overlay.Publish{Proto: proto, HostPort: hostPort, Addr: labAddr(n.VNI, last), Port: 80}
				if host != "" {
					p.HostAddr = netip.MustParseAddr(host)
				}
				n.Published = append(n.Published, p)
			}
			switch n.VNI {
			case blue:
				to("", 8080, 7)
				to("127.0.0.1", 8082, 7)
				to("192.0.2.1", 8083, 7)
			case shut:
				to("", 8081, 7)
			}
		}
		sh(t, "ip netns exec %s sysctl -qw net.ipv4.conf.%s.route_localnet=1", l.host, overlay.GatewayName(n.VNI))
	}
	l.put(t, filterOf(t, l.state)...)
}

func TestPublishedPorts(t *testing.T) {
	l := newTrafficLab(t)
	l.publish(t)
	l.echo(t, "blue1", "10.42.0.7:80")
	l.echo(t, "shut1", "10.45.0.7:80")
	for name, row := range map[string]struct{ by, to, seen string }{
		"a client outside":                       {"world", "192.0.2.1:8080", "192.0.2.2"},
		"a client outside, to one address":       {"world", "192.0.2.1:8083", "192.0.2.2"},
		"a client outside, to a closed network":  {"world", "192.0.2.1:8081", "192.0.2.2"},
		"the host":                               {"host", "192.0.2.1:8080", "192.0.2.1"},
		"the host, to a closed network":          {"host", "192.0.2.1:8081", "192.0.2.1"},
		"the host by 127.0.0.1":                  {"host", "127.0.0.1:8080", "10.42.0.1"},
		"the host by 127.0.0.1 alone":            {"host", "127.0.0.1:8082", "10.42.0.1"},
		"the host by another loopback address":   {"host", "127.0.0.99:8080", "10.42.0.1"},
		"the host by 127.0.0.1, closed network":  {"host", "127.0.0.1:8081", "10.45.0.1"},
		"an endpoint of the network":             {"blue2", "192.0.2.1:8080", "10.42.0.1"},
		"the endpoint itself":                    {"blue1", "192.0.2.1:8080", "10.42.0.1"},
		"an endpoint of another network":         {"green1", "192.0.2.1:8080", "10.42.0.1"},
		"an endpoint of a closed network":        {"shut1", "192.0.2.1:8080", "10.42.0.1"},
		"an endpoint by the gateway's address":   {"blue2", "10.42.0.1:8080", "10.42.0.1"},
		"an endpoint, to one address":            {"blue2", "192.0.2.1:8083", "10.42.0.1"},
		"an endpoint, to another closed network": {"blue1", "192.0.2.1:8081", "10.45.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				if seen := l.ask(t, row.by, network, row.to); seen != row.seen {
					t.Errorf("%s: seen as %s, want %s", network, seen, row.seen)
				}
			}
		})
	}
	for name, row := range map[string]struct{ by, to, answer string }{
		"a port of 127.0.0.1 from outside":              {"world", "192.0.2.1:8082", "refused"},
		"a port of 127.0.0.1 from an endpoint":          {"blue2", "192.0.2.1:8082", "refused"},
		"a port of one address at another":              {"host", "127.0.0.1:8083", "refused"},
		"the endpoint itself from outside":              {"world", "10.42.0.7:80", "timeout"},
		"the endpoint itself from another network":      {"green1", "10.42.0.7:80", "timeout"},
		"a published port from an internal network":     {"inward1", "192.0.2.1:8080", "timeout"},
		"a published port by an endpoint's loopback":    {"blue2", "127.0.0.1:8080", "refused"},
		"a published port of the endpoint's own number": {"world", "192.0.2.1:80", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := l.dial(t, row.by, "tcp", "", row.to)
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), row.answer) {
				t.Errorf("%v, want %s", err, row.answer)
			}
		})
	}
}

// A datagram that a neighbour sends to 127.0.0.1 by the hardware address is
// dropped though a port is published there and the way back is open.
func TestPublishedAtLoopbackAlone(t *testing.T) {
	l := newTrafficLab(t)
	l.publish(t)
	sh(t, "ip netns exec %s sysctl -qw net.ipv4.conf.eth0.route_localnet=1", l.host)
	to := l.tap(t, "blue1", "eth0")
	mac, err := net.ParseMAC(strings.Fields(sh(t, "ip -n %s -br link show eth0", l.host))[2])
	must(t, err)
	datagram := append([]byte{0x30, 0x39, 0x1f, 0x92, 0, 24, 0, 0}, "by the back door"...) // to 8082
	before := l.counted(t, "host", "in_raw", "ip daddr 127.0.0.0/8")
	l.tap(t, "world", "eth0").send(t, ethernet(overlay.MAC(mac), labMAC(0, 9), 0x0800,
		ipv4(netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("127.0.0.1"), 17, datagram)))
	l.meets(t, before, "host", "in_raw", "ip daddr 127.0.0.0/8")
	before = l.counted(t, "host", "in_raw", "ip saddr 127.0.0.0/8")
	l.tap(t, "world", "eth0").send(t, ethernet(overlay.MAC(mac), labMAC(0, 9), 0x0800,
		ipv4(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1"), 17, datagram)))
	l.meets(t, before, "host", "in_raw", "ip saddr 127.0.0.0/8")
	l.send(t, "world", "192.0.2.66", "192.0.2.1:8080") // the end
	if to.until(t, "hello", "by the back door") {
		t.Error("the datagram reached the endpoint")
	}
}

// Whoever follows the ports learns of each that comes and goes, also of one that
// another takes the place of.
func TestPortsThatMove(t *testing.T) {
	l := newNFTLab(t)
	var came, gone []overlay.NFElement
	l.nft.host.moved = func(c, g []overlay.NFElement) error {
		came, gone = append(came, c...), append(gone, g...)
		return nil
	}
	published := func(last byte) overlay.NFElement {
		return overlay.NFElement{Place: overlay.Host, Set: "pub4", Proto: 17, Port: 8080, ToAddr: labAddr(blue, last), ToPort: 80}
	}
	l.put(t, filterOf(t, stateNamed(t, "member of no network"))...)
	for step, row := range []struct {
		change     func()
		came, gone []overlay.NFElement
	}{
		{func() { l.put(t, published(7)) }, []overlay.NFElement{published(7)}, nil},
		{func() { l.put(t, published(8)) }, []overlay.NFElement{published(8)}, []overlay.NFElement{published(7)}},
		{func() { must(t, l.nft.Delete(t.Context(), published(8))) }, nil, []overlay.NFElement{published(8)}},
	} {
		came, gone = nil, nil
		row.change()
		if !slices.Equal(came, row.came) || !slices.Equal(gone, row.gone) {
			t.Errorf("step %d: came %v, gone %v; want %v and %v", step, came, gone, row.came, row.gone)
		}
	}
}
