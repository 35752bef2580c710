package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// trafficLab is a host with four networks and an uplink into a world of one
// member, one stranger and one server. Its links are made with ip(8): only the
// rules are ours.
type trafficLab struct {
	*nftLab
	world   string
	sandbox map[string]string // by name of the endpoint
	state   overlay.State
}

const (
	blue   = 0x2a // ordinary, two endpoints
	green  = 0x2b // ordinary
	inward = 0x2c // internal
	shut   = 0x2d // host_access=none
)

// labEndpoints are the endpoints by name: their network and last byte.
var labEndpoints = map[string]struct {
	vni  uint32
	last byte
}{"blue1": {blue, 7}, "blue2": {blue, 8}, "green1": {green, 7}, "inward1": {inward, 7}, "shut1": {shut, 7}}

func newTrafficLab(t testing.TB) *trafficLab {
	t.Helper()
	l := &trafficLab{nftLab: newNFTLab(t), world: newNamespace(t), sandbox: map[string]string{}}
	l.state = overlay.State{VTEP: netip.MustParseAddr("192.0.2.1"), Port: 4799, Complete: true, AgentPorts: []uint16{4798},
		Members:     []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		MemberAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("203.0.113.2")}}
	sh(t, "ip -n %s link add eth0 type veth peer name eth0 netns %s", l.host, l.world)
	sh(t, "ip -n %s link set lo up; ip -n %s link set eth0 up; ip -n %[1]s addr add 192.0.2.1/24 dev eth0", l.host, l.host)
	sh(t, "ip netns exec %s sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0", l.host)
	sh(t, "ip -n %s link set lo up; ip -n %[1]s link set eth0 up; ip -n %[1]s addr add 192.0.2.2/24 dev eth0;"+
		"ip -n %[1]s addr add 192.0.2.66/24 dev eth0; ip -n %[1]s addr add 198.51.100.1/32 dev lo;"+
		"ip -n %[1]s route add 10.0.0.0/8 via 192.0.2.1", l.world)
	sh(t, "ip -n %s route add default via 192.0.2.2", l.host)
	sh(t, "ip netns exec %s sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.ipv6.conf.default.disable_ipv6=1", l.fabric)
	for vni := uint32(blue); vni <= shut; vni++ {
		l.addNetwork(t, vni)
	}
	for name, e := range labEndpoints {
		l.addEndpoint(t, name, e.vni, e.last)
	}
	l.put(t, filterOf(t, l.state)...)
	return l
}

func (l *trafficLab) addNetwork(t testing.TB, vni uint32) {
	t.Helper()
	n := overlay.Network{VNI: vni, ID: fmt.Sprintf("%032x", vni), Name: fmt.Sprint(vni), MTU: 1450, GatewayMAC: labMAC(vni, 1),
		HostAccess: vni != shut, Internal: vni == inward,
		Subnets: []overlay.Subnet{
			{CIDR: netip.PrefixFrom(labAddr(vni, 0), 24), Gateway: labAddr(vni, 1)},
			{CIDR: netip.PrefixFrom(labAddr6(vni, 0), 64), Gateway: labAddr6(vni, 1)},
		}}
	group := overlay.Group
	if n.Internal {
		group = overlay.GroupInternal
	}
	g, p, b := overlay.GatewayName(vni), overlay.GatewayPeerName(vni), overlay.BridgeName(vni)
	sh(t, "ip -n %s link add %s type bridge; ip -n %[1]s link set %[2]s up", l.fabric, b)
	sh(t, "ip -n %s link add %s address %s group %d type veth peer name %s netns %s", l.host, g, n.GatewayMAC, group, p, l.fabric)
	sh(t, "ip -n %s link set %s master %s up; ip -n %s link set %s up", l.fabric, p, b, l.host, g)
	sh(t, "ip -n %s addr add %s/24 dev %s; ip -n %[1]s addr add %[4]s/64 dev %[3]s nodad", l.host, labAddr(vni, 1), g, labAddr6(vni, 1))
	l.state.Networks = append(l.state.Networks, n)
}

func (l *trafficLab) addEndpoint(t testing.TB, name string, vni uint32, last byte) {
	t.Helper()
	ns := newNamespace(t)
	l.sandbox[name] = ns
	id := fmt.Sprintf("%04x%02x%010x", vni, last, 0)
	port := overlay.Port{Endpoint: id, MAC: labMAC(vni, last), Addrs: []netip.Addr{labAddr(vni, last), labAddr6(vni, last)}}
	k := overlay.EndpointName(id)
	sh(t, "ip -n %s link add eth0 address %s type veth peer name %s netns %s", ns, port.MAC, k, l.fabric)
	sh(t, "ip -n %s link set %s master %s up; ip -n %s link set lo up; ip -n %[4]s link set eth0 up", l.fabric, k, overlay.BridgeName(vni), ns)
	sh(t, "ip -n %s addr add %s/24 dev eth0; ip -n %[1]s addr add %[3]s/64 dev eth0 nodad", ns, labAddr(vni, last), labAddr6(vni, last))
	sh(t, "ip -n %s route add default via %s; ip -n %[1]s -6 route add default via %[3]s", ns, labAddr(vni, 1), labAddr6(vni, 1))
	for i := range l.state.Networks {
		if n := &l.state.Networks[i]; n.VNI == vni {
			n.Ports = append(n.Ports, port)
		}
	}
}

// labAddr is 10.VNI.0.LAST, labAddr6 2001:db8:VNI::LAST.
func labAddr(vni uint32, last byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(vni), 0, last})
}

func labAddr6(vni uint32, last byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 5: byte(vni), 15: last})
}

func labMAC(vni uint32, last byte) overlay.MAC { return overlay.MAC{0x0e, 0, 10, byte(vni), 0, last} }

// ns is the namespace of "host", "fabric", "world" or an endpoint.
func (l *trafficLab) ns(name string) string {
	switch name {
	case "host":
		return l.host
	case "fabric":
		return l.fabric
	case "world":
		return l.world
	}
	return l.sandbox[name]
}

// enter runs f on a thread in a namespace: sockets that it opens stay there.
func (l *trafficLab) enter(t testing.TB, name string, f func() error) {
	t.Helper()
	must(t, netns.Within(openNetns(t, l.ns(name)), f))
}

// echo answers datagrams and connections to an address, in a namespace, until
// the test ends. Its answer is the address that it saw.
func (l *trafficLab) echo(t testing.TB, name, address string) {
	t.Helper()
	l.enter(t, name, func() error {
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go answerDatagrams(udp)
		go answerConnections(tcp)
		t.Cleanup(func() { udp.Close(); tcp.Close() })
		return nil
	})
}

func answerDatagrams(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo([]byte(from.String()), from)
	}
}

func answerConnections(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(c.RemoteAddr().String()))
		c.Close()
	}
}

// dial opens a socket in a namespace towards to, from an address unless that
// is empty. A dialed datagram socket has sent nothing yet.
func (l *trafficLab) dial(t testing.TB, name, network, from, to string) (c net.Conn, err error) {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1) })
	}}
	if from != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	l.enter(t, name, func() error {
		c, err = d.DialContext(context.WithoutCancel(t.Context()), network, to)
		return nil
	})
	return c, err
}

// ask sends a datagram, or connects, and returns the address that the answerer
// saw.
func (l *trafficLab) ask(t testing.TB, name, network, to string) string {
	t.Helper()
	c, err := l.dial(t, name, network, "", to)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	if network == "udp" {
		_, err = c.Write([]byte("hello"))
		must(t, err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("%s asks %s over %s: %v\n%s", name, to, network, err, shown(t, l.host))
	}
	host, _, err := net.SplitHostPort(string(buf[:n]))
	must(t, err)
	return host
}

// send sends one datagram.
func (l *trafficLab) send(t testing.TB, name, from, to string) {
	t.Helper()
	c, err := l.dial(t, name, "udp", from, to)
	must(t, err)
	defer c.Close()
	// A packet that an output chain drops is refused to its sender.
	if _, err = c.Write([]byte("hello")); !errors.Is(err, unix.EPERM) {
		must(t, err)
	}
}

var packets = regexp.MustCompile(`packets (\d+)`)

// counted is the number of packets that a rule of our table has met: that of
// the chain whose text, without the counter, is rule.
func (l *trafficLab) counted(t testing.TB, place, chain, rule string) int {
	t.Helper()
	family := map[string]string{"host": "inet", "fabric": "bridge"}[place]
	text := sh(t, "ip netns exec %s nft list chain %s weft %s", l.ns(place), family, chain)
	for line := range strings.Lines(text) {
		if match := packets.FindStringSubmatch(line); match != nil && strings.HasPrefix(strings.TrimSpace(line), strings.TrimSpace(rule+" counter")) {
			n, err := strconv.Atoi(match[1])
			must(t, err)
			return n
		}
	}
	t.Fatalf("no rule %q in:\n%s", rule, text)
	return 0
}

// meets waits until a rule has met more packets than before.
func (l *trafficLab) meets(t testing.TB, before int, place, chain, rule string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); l.counted(t, place, chain, rule) <= before; {
		if time.Now().After(deadline) {
			t.Fatalf("no packet met %q\n%s", rule, shown(t, l.ns(place)))
		}
		time.Sleep(time.Millisecond)
	}
}

// tap is a raw socket on a device.
type tap struct{ f *os.File }

func (l *trafficLab) tap(t testing.TB, name, dev string) tap {
	t.Helper()
	var fd int
	l.enter(t, name, func() (err error) {
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all)); err != nil {
			return err
		}
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	f := os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { f.Close() })
	return tap{f}
}

func (p tap) send(t testing.TB, frame []byte) {
	t.Helper()
	_, err := p.f.Write(frame)
	must(t, err)
}

// until reads frames up to the one that contains last, and reports whether one
// before it contained wanted. Frames keep their order on a veth and a bridge.
func (p tap) until(t testing.TB, last, wanted string) (found bool) {
	t.Helper()
	must(t, p.f.SetReadDeadline(time.Now().Add(5*time.Second)))
	buf := make([]byte, 2048)
	for {
		n, err := p.f.Read(buf)
		must(t, err)
		switch text := string(buf[:n]); {
		case strings.Contains(text, last):
			return found
		case strings.Contains(text, wanted):
			found = true
		}
	}
}
