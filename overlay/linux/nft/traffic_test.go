package nft

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Each row is a datagram and the rule that must have dropped it.
func TestDroppedPackets(t *testing.T) {
	l := newTrafficLab(t)
	const (
		toTunnel   = "fib daddr type != unicast"
		toMember   = "ip daddr @vteps ip saddr != @vteps"
		isolation  = "iifgroup 20310 oifgroup 20310"
		neighbours = "iifgroup 20311"
	)
	for name, row := range map[string]struct{ by, from, to, chain, rule string }{
		"encapsulated by a stranger":                {"world", "192.0.2.66", "192.0.2.1:4799", "tunnel", toTunnel},
		"encapsulated by a stranger, for everybody": {"world", "192.0.2.66", "192.0.2.255:4799", "tunnel", toTunnel},
		"encapsulated by a member, for everybody":   {"world", "192.0.2.2", "192.0.2.255:4799", "tunnel", toTunnel},
		"encapsulated by an endpoint":               {"blue1", "", "192.0.2.1:4799", "tunnel", toTunnel},
		"encapsulated by an endpoint, for a member": {"blue1", "", "192.0.2.2:4799", "tunnel", toMember},
		"encapsulated by a local process":           {"host", "192.0.2.1", "192.0.2.1:4799", "tunnel", toTunnel},
		"from one network to another":               {"blue1", "", "10.43.0.7:9", "forward", isolation},
		"from one network to another, IPv6":         {"blue1", "", "[2001:db8:2b::7]:9", "forward", isolation},
		"out of an internal network":                {"inward1", "", "198.51.100.1:9", "forward", neighbours},
		"into an internal network":                  {"blue1", "", "10.44.0.7:9", "forward", "oifgroup 20311"},
		"routed into a network from outside":        {"world", "192.0.2.66", "10.42.0.7:9", "in_raw", "ip daddr @nets4"},
		"to the gateway of another network":         {"blue1", "", "10.43.0.1:53", "input", "ip daddr @nets4"},
		"to the gateway of another network, IPv6":   {"blue1", "", "[2001:db8:2b::1]:53", "input", "ip6 daddr @nets6"},
		"from an internal network to the host":      {"inward1", "", "192.0.2.1:9", "input", neighbours},
		"to a host that is a stranger":              {"shut1", "", "192.0.2.1:9", "input", "iifname @closed"},
		"to the gateway of a closed network":        {"shut1", "", "10.45.0.1:9", "input_local", "iifname @closed"},
		"from the host into a closed network":       {"host", "", "10.45.0.7:9", "refused", ""},
		"to this host's agent":                      {"blue1", "", "192.0.2.1:4798", "input", "udp dport @agents"},
		"to this host's agent, at the gateway":      {"blue1", "", "10.42.0.1:4798", "input", "udp dport @agents"},
		"to another host's agent":                   {"blue1", "", "192.0.2.2:4798", "members", "udp dport @agents"},
		"to another host's agent, elsewhere":        {"blue1", "", "203.0.113.2:4798", "members", "udp dport @agents"},
		"to another host of a stranger, elsewhere":  {"shut1", "", "203.0.113.2:9", "members", "iifname @closed ct direction original"},
		"to another host of a stranger":             {"shut1", "", "192.0.2.2:9", "members", "iifname @closed ct direction original"},
	} {
		t.Run(name, func(t *testing.T) {
			before := l.counted(t, "host", row.chain, row.rule)
			l.send(t, row.by, row.from, row.to)
			l.meets(t, before, "host", row.chain, row.rule)
		})
	}
	drops, err := l.nft.Drops()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]uint64{}
	for _, d := range drops {
		if count[d.Reason] = d.Packets; d.Bytes < 28*d.Packets { // headers of IP and UDP
			t.Errorf("%+v", d)
		}
	}
	for reason, least := range map[string]uint64{"no_member": 6, "isolation": 4, "internal": 3, "outside": 1, "host_access": 3, "agent_port": 3, "refused": 1} {
		if count[reason] < least {
			t.Errorf("%d packets dropped for %q, at least %d were sent", count[reason], reason, least)
		}
	}
	if count["names"]+count["loopback"] > 0 {
		t.Errorf("what nobody sent was dropped: %v", count)
	}
}

// The host learns at once that nothing comes back from an endpoint of another host,
// or from a network that wants nothing from it.
func TestHostIsToldAtOnce(t *testing.T) {
	l := newTrafficLab(t)
	for name, to := range map[string]string{
		"an address elsewhere":       "10.42.0.99:80",
		"an address elsewhere, IPv6": "[2001:db8:2a::99]:80",
		"an endpoint of a stranger":  "10.45.0.7:80",
		"elsewhere, of a stranger":   "10.45.0.99:80",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			c, err := l.dial(t, "host", "tcp", "", to)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ECONNREFUSED) || time.Since(start) > time.Second {
				t.Errorf("after %v: %v, want to be refused at once", time.Since(start), err)
			}
		})
	}
}

// What a rule has counted is no change of it.
func TestCountersAreNoDifference(t *testing.T) {
	l := newTrafficLab(t)
	want := l.list(t)
	l.send(t, "blue1", "", "10.43.0.7:9")
	l.meets(t, 0, "host", "forward", "iifgroup 20310 oifgroup 20310")
	same(t, want, l.list(t))
}

// A neighbour on the wire can address a packet to 127.0.0.1 without asking a
// routing table.
func TestLoopbackGuard(t *testing.T) {
	l := newTrafficLab(t)
	sh(t, "ip netns exec %s sysctl -qw net.ipv4.conf.eth0.route_localnet=1", l.host)
	before := l.counted(t, "host", "in_raw", "ip daddr 127.0.0.0/8")
	dst, err := net.ParseMAC(strings.Fields(sh(t, "ip -n %s -br link show eth0", l.host))[2])
	must(t, err)
	frame := ethernet(overlay.MAC(dst), labMAC(0, 9), 0x0800, ipv4(netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("127.0.0.1"), 17, make([]byte, 8)))
	l.tap(t, "world", "eth0").send(t, frame)
	l.meets(t, before, "host", "in_raw", "ip daddr 127.0.0.0/8")
}

func TestAcceptedPackets(t *testing.T) {
	l := newTrafficLab(t)
	for _, address := range []string{"192.0.2.1:80", "10.42.0.1:53", "10.42.0.1:80", "[2001:db8:2a::1]:53", "[2001:db8:2a::1]:80",
		"10.44.0.1:53", "10.44.0.1:80", "10.45.0.1:53", "[2001:db8:2d::1]:53"} {
		l.echo(t, "host", address)
	}
	l.echo(t, "world", "198.51.100.1:80")
	l.echo(t, "world", "192.0.2.2:80")
	l.echo(t, "blue1", "10.42.0.7:80")
	l.echo(t, "blue2", "10.42.0.8:80")
	for name, row := range map[string]struct{ by, to, seen string }{
		"within a network":                  {"blue1", "10.42.0.8:80", "10.42.0.7"},
		"names":                             {"blue1", "10.42.0.1:53", "10.42.0.7"},
		"names over IPv6":                   {"blue1", "[2001:db8:2a::1]:53", "2001:db8:2a::7"},
		"a service on the host":             {"blue1", "10.42.0.1:80", "10.42.0.7"},
		"a service on the host over IPv6":   {"blue1", "[2001:db8:2a::1]:80", "2001:db8:2a::7"},
		"the host's other address":          {"blue1", "192.0.2.1:80", "10.42.0.7"},
		"the world, masqueraded":            {"blue1", "198.51.100.1:80", "192.0.2.1"},
		"another member":                    {"blue1", "192.0.2.2:80", "192.0.2.1"},
		"the world from a closed network":   {"shut1", "198.51.100.1:80", "192.0.2.1"},
		"names in an internal network":      {"inward1", "10.44.0.1:53", "10.44.0.7"},
		"the host from an internal network": {"inward1", "10.44.0.1:80", "10.44.0.7"},
		"names in a closed network":         {"shut1", "10.45.0.1:53", "10.45.0.7"},
		"names in a closed network, IPv6":   {"shut1", "[2001:db8:2d::1]:53", "2001:db8:2d::7"},
		"an endpoint from the host":         {"host", "10.42.0.7:80", "10.42.0.1"},
		"the host's own gateway address":    {"host", "10.42.0.1:80", "10.42.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				if seen := l.ask(t, row.by, network, row.to); seen != row.seen {
					t.Errorf("%s: seen as %s, want %s", network, seen, row.seen)
				}
			}
		})
	}
	for _, row := range [][2]string{{"blue1", "10.42.0.1"}, {"shut1", "10.45.0.1"}, {"shut1", "2001:db8:2d::1"},
		{"inward1", "10.44.0.1"}, {"host", "10.45.0.7"}, {"blue1", "198.51.100.1"}} {
		sh(t, "ip netns exec %s ping -c 1 -W 5 %s", l.ns(row[0]), row[1])
	}
}

// What endpoints ask certain DNS servers is answered here, to the server's
// address and with the endpoint's own seen; what they ask others is not.
func TestRedirectedQuestions(t *testing.T) {
	l := newTrafficLab(t)
	redirect := func(q overlay.Questions) {
		t.Helper()
		old := filterOf(t, l.state)
		l.state.Questions = q
		l.put(t, filterOf(t, l.state)...)
		must(t, l.nft.Delete(t.Context(), without(old, filterOf(t, l.state))...))
	}
	for _, address := range []string{"10.42.0.1:4797", "[2001:db8:2a::1]:4797", "10.44.0.1:4797", "10.45.0.1:4797"} {
		l.echo(t, "host", address)
	}
	l.echo(t, "world", "198.51.100.1:53")
	l.echo(t, "blue2", "10.42.0.8:53")
	redirect(overlay.Questions{Redirected: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}})
	check := func(by, to, seen string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			if got := l.ask(t, by, network, to); got != seen {
				t.Errorf("%s asks %s over %s: seen as %s, want %s", by, to, network, got, seen)
			}
		}
	}
	check("blue1", "192.0.2.53:53", "10.42.0.7")
	check("blue1", "[2001:db8::53]:53", "2001:db8:2a::7")
	check("inward1", "192.0.2.53:53", "10.44.0.7")
	check("shut1", "192.0.2.53:53", "10.45.0.7")
	check("blue1", "198.51.100.1:53", "192.0.2.1") // by the server itself, masqueraded
	check("blue1", "10.42.0.8:53", "10.42.0.7")
	redirect(overlay.Questions{All: true})
	check("blue1", "198.51.100.1:53", "10.42.0.7")
	check("inward1", "198.51.100.1:53", "10.44.0.7")
	check("blue1", "10.42.0.8:53", "10.42.0.7")
	redirect(overlay.Questions{})
	check("blue1", "198.51.100.1:53", "192.0.2.1")
}

// without are the objects of a that are not in b.
func without(a, b []overlay.Object) []overlay.Object {
	return slices.DeleteFunc(slices.Clone(a), func(o overlay.Object) bool { return slices.Contains(b, o) })
}

// The address for names answers endpoints of every kind of network and what is
// behind a bridge of this host's own; nobody else.
func TestAddressForNames(t *testing.T) {
	l := newTrafficLab(t)
	behind := newNamespace(t)
	l.sandbox["docker"] = behind
	sh(t, "ip -n %s link add docker0 type bridge; ip -n %[1]s addr add 172.17.0.1/16 dev docker0; ip -n %[1]s link set docker0 up", l.host)
	sh(t, "ip -n %s link add d0 type veth peer name eth0 netns %s; ip -n %[1]s link set d0 master docker0 up", l.host, behind)
	sh(t, "ip -n %s addr add 172.17.0.2/16 dev eth0; ip -n %[1]s link set eth0 up; ip -n %[1]s route add default via 172.17.0.1", behind)
	sh(t, "ip -n %s addr add 169.254.53.53/32 dev lo scope host", l.host)
	l.state.Questions = overlay.Questions{Address: true, All: true}
	l.put(t, filterOf(t, l.state)...)
	l.echo(t, "host", "169.254.53.53:53")
	for by, seen := range map[string]string{"blue1": "10.42.0.7", "inward1": "10.44.0.7", "shut1": "10.45.0.7", "docker": "172.17.0.2", "host": "169.254.53.53"} {
		for _, network := range []string{"udp", "tcp"} {
			if got := l.ask(t, by, network, "169.254.53.53:53"); got != seen {
				t.Errorf("%s over %s: seen as %s, want %s", by, network, got, seen)
			}
		}
	}
	sh(t, "ip -n %s route add 169.254.53.53 via 192.0.2.1", l.world)
	const rule = "ip daddr 169.254.53.53 iifname != @dns_bridges"
	before := l.counted(t, "host", "in_raw", rule)
	l.send(t, "world", "192.0.2.66", "169.254.53.53:53")
	l.meets(t, before, "host", "in_raw", rule)
	l.send(t, "blue1", "", "169.254.53.53:9") // no other service of the host is there
	l.meets(t, 0, "host", "input_names", "")
}

// Neither encapsulated packets nor questions for names leave an entry in the
// host's connection tracking.
func TestUntracked(t *testing.T) {
	l := newTrafficLab(t)
	l.echo(t, "host", "192.0.2.1:4799")
	l.echo(t, "host", "10.42.0.1:53")
	l.echo(t, "host", "[2001:db8:2a::1]:53")
	l.echo(t, "host", "192.0.2.1:80")
	c, err := l.dial(t, "world", "udp", "192.0.2.2", "192.0.2.1:4799")
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = c.Read(make([]byte, 64)) // the answer has another port: tracked from its first packet
	must(t, err)
	l.send(t, "host", "192.0.2.1", "192.0.2.2:4799")
	l.ask(t, "blue1", "udp", "10.42.0.1:53")
	l.ask(t, "blue1", "tcp", "10.42.0.1:53")
	l.ask(t, "blue1", "udp", "[2001:db8:2a::1]:53")
	l.ask(t, "blue1", "udp", "192.0.2.1:80") // the control
	table := sh(t, "ip netns exec %s cat /proc/net/nf_conntrack", l.host)
	contains(t, table, "dport=80 ")
	for line := range strings.Lines(table) {
		if strings.Contains(line, "dport=53 ") || strings.Contains(line, "dport=4799 ") && !strings.Contains(line, "sport=4799 ") {
			t.Errorf("tracked: %s", line)
		}
	}
}

// Requests and answers go on while the tables are replaced under them: by
// masquerading, within a network, and to the tunnel's port.
func TestReplacingLosesNothing(t *testing.T) {
	l := newTrafficLab(t)
	l.echo(t, "world", "198.51.100.1:80")
	l.echo(t, "blue2", "10.42.0.8:80")
	l.echo(t, "host", "192.0.2.1:4799")
	var streams []*stream
	for _, s := range [][3]string{
		{"blue1", "", "198.51.100.1:80"}, {"blue1", "", "10.42.0.8:80"}, {"world", "192.0.2.2", "192.0.2.1:4799"},
	} {
		c, err := l.dial(t, s[0], "udp", s[1], s[2])
		must(t, err)
		streams = append(streams, startStream(t, c))
	}
	objects := filterOf(t, l.state)
	tables := tablesAsObjects(objects)
	const replacements, requests = 50, 1000
	n := 0
	for ; n < replacements || slices.ContainsFunc(streams, func(s *stream) bool { return s.answered.Load() < requests && s.running() }); n++ {
		if n%2 == 0 {
			l.replace(t, tables...)
		} else {
			l.replace(t, objects...)
		}
	}
	for _, s := range streams {
		s.stop.Store(true)
		must(t, <-s.done)
		t.Logf("%d requests were answered during %d replacements", s.answered.Load(), n)
	}
	same(t, objects, l.list(t))
}

// replace puts tables that are as they should be already, and elements with them.
func (l *trafficLab) replace(t testing.TB, objects ...overlay.Object) {
	t.Helper()
	for _, table := range l.nft.both() {
		had, err := table.dump()
		must(t, err)
		_, elements := table.mine(objects)
		if len(elements) == 0 {
			elements = had.elements
		}
		must(t, table.replace(table.made, elements))
	}
}

// stream asks and waits for the answer, again and again. A lost packet ends it.
type stream struct {
	answered atomic.Int64
	stop     atomic.Bool
	done     chan error
}

func startStream(t testing.TB, c net.Conn) *stream {
	s := &stream{done: make(chan error, 1)}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for !s.stop.Load() {
			// On a busy machine an answer may be late, but never this late.
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, err := c.Write([]byte("hello"))
			if err == nil {
				_, err = c.Read(buf)
			}
			if err != nil {
				s.done <- err
				return
			}
			s.answered.Add(1)
		}
		s.done <- nil
	}()
	return s
}

// running reports whether the stream has not failed.
func (s *stream) running() bool { return len(s.done) == 0 }

// Each row is a frame of blue1 towards blue2.
func TestAntiSpoofing(t *testing.T) {
	l := newTrafficLab(t)
	from, to := l.tap(t, "blue1", "eth0"), l.tap(t, "blue2", "eth0")
	own, other, dst := labMAC(blue, 7), labMAC(blue, 9), labMAC(blue, 8)
	a, b, victim := labAddr(blue, 7), labAddr(blue, 8), labAddr(blue, 9)
	a6, b6, victim6 := labAddr6(blue, 7), labAddr6(blue, 8), labAddr6(blue, 9)
	link, foreign := netip.MustParseAddr("fe80::c00:aff:fe2a:7"), netip.MustParseAddr("fe80::c00:aff:fe2a:9")
	none, none6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	everybody := overlay.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	advert := func(target netip.Addr) []byte { return icmp6(136, target) }
	for name, row := range map[string]struct {
		frame []byte
		pass  bool
	}{
		"IPv4":                                    {ethernet(dst, own, 0x0800, ipv4(a, b, 17, nil)), true},
		"IPv4 of another endpoint":                {ethernet(dst, own, 0x0800, ipv4(victim, b, 17, nil)), false},
		"IPv4 from another hardware address":      {ethernet(dst, other, 0x0800, ipv4(a, b, 17, nil)), false},
		"DHCP without an address":                 {ethernet(everybody, own, 0x0800, ipv4(none, netip.MustParseAddr("255.255.255.255"), 17, nil)), false},
		"IPv4 in a broadcast frame":               {ethernet(everybody, own, 0x0800, ipv4(a, b, 17, nil)), false},
		"IPv4 multicast":                          {ethernet(overlay.MAC{0x01, 0, 0x5e, 0, 0, 0xfb}, own, 0x0800, ipv4(a, netip.MustParseAddr("224.0.0.251"), 17, nil)), false},
		"IPv6 multicast":                          {ethernet(overlay.MAC{0x33, 0x33, 0, 0, 0, 0xfb}, own, 0x86dd, ipv6(a6, netip.MustParseAddr("ff02::fb"), 17, nil)), false},
		"neighbour solicitation to the group":     {ethernet(overlay.MAC{0x33, 0x33, 0xff, 0, 0, 8}, own, 0x86dd, ipv6(a6, b6, 58, icmp6(135, b6))), true},
		"advertisement to all for another":        {ethernet(overlay.MAC{0x33, 0x33, 0, 0, 0, 1}, own, 0x86dd, ipv6(a6, netip.MustParseAddr("ff02::1"), 58, advert(victim6))), false},
		"ARP":                                     {ethernet(everybody, own, 0x0806, arp(own, a, b)), true},
		"ARP probe":                               {ethernet(everybody, own, 0x0806, arp(own, none, a)), true},
		"ARP for another endpoint's address":      {ethernet(everybody, own, 0x0806, arp(own, victim, b)), false},
		"ARP with another hardware address":       {ethernet(everybody, own, 0x0806, arp(other, a, b)), false},
		"ARP probe with another hardware address": {ethernet(everybody, own, 0x0806, arp(other, none, a)), false},
		"ARP in another's frame":                  {ethernet(everybody, other, 0x0806, arp(own, a, b)), false},
		"IPv6":                                    {ethernet(dst, own, 0x86dd, ipv6(a6, b6, 17, nil)), true},
		"IPv6 of another endpoint":                {ethernet(dst, own, 0x86dd, ipv6(victim6, b6, 17, nil)), false},
		"IPv6 link-local":                         {ethernet(dst, own, 0x86dd, ipv6(link, b6, 17, nil)), true},
		"IPv6 link-local of another":              {ethernet(dst, own, 0x86dd, ipv6(foreign, b6, 17, nil)), false},
		"duplicate address detection":             {ethernet(dst, own, 0x86dd, ipv6(none6, b6, 58, icmp6(135, a6))), true},
		"neighbour advertisement":                 {ethernet(dst, own, 0x86dd, ipv6(a6, b6, 58, advert(a6))), true},
		"neighbour advertisement for another":     {ethernet(dst, own, 0x86dd, ipv6(a6, b6, 58, advert(victim6))), false},
		"router advertisement":                    {ethernet(dst, own, 0x86dd, ipv6(link, b6, 58, icmp6(134, a6))), false},
		"redirect":                                {ethernet(dst, own, 0x86dd, ipv6(link, b6, 58, icmp6(137, a6))), false},
		"IPv4 with a VLAN tag":                    {ethernet(dst, own, 0x8100, append([]byte{0, 5, 8, 0}, ipv4(a, b, 17, nil)...)), false},
		"IPv4 of another with a VLAN tag":         {ethernet(dst, own, 0x8100, append([]byte{0, 5, 8, 0}, ipv4(victim, b, 17, nil)...)), false},
		"another protocol":                        {ethernet(dst, own, 0x88b5, make([]byte, 46)), false},
		"IPv4 that is cut short":                  {ethernet(dst, own, 0x0800, []byte{0x45, 0, 0, 8}), false},
	} {
		t.Run(name, func(t *testing.T) {
			mark := "<" + name + ">"
			from.send(t, append(row.frame, mark...))
			from.send(t, append(ethernet(dst, own, 0x0800, ipv4(a, b, 17, nil)), "end of "+name...))
			if passed := to.until(t, "end of "+name, mark); passed != row.pass {
				t.Errorf("passed: %v, want %v", passed, row.pass)
			}
		})
	}
	if n := l.counted(t, "fabric", "guard", "ether type ip"); n < 2 {
		t.Errorf("%d packets with a false IPv4 source were counted, want at least 2", n)
	}
}

// The gateway port and the tunnel carry other hosts' addresses.
func TestNoGuardOnOtherPorts(t *testing.T) {
	l := newTrafficLab(t)
	from, to := l.tap(t, "host", overlay.GatewayName(blue)), l.tap(t, "blue2", "eth0")
	frame := ethernet(labMAC(blue, 8), labMAC(blue, 1), 0x0800, ipv4(netip.MustParseAddr("198.51.100.1"), labAddr(blue, 8), 17, nil))
	from.send(t, append(slices.Clone(frame), "from afar"...))
	from.send(t, append(frame, "the end"...))
	if !to.until(t, "the end", "from afar") {
		t.Error("a packet from the gateway port was dropped")
	}
}
