package linux

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// What is for all endpoints of a network reaches none, on the same host as on another:
// a program that works on one host works on two. Neighbours find each other all the
// same.
func TestBroadcastReachesNobodyOnOneHostAsOnTwo(t *testing.T) {
	a, b := pair(t)
	a.set(t, a.blueOn(true, overlaytest.Remote(a.vtep, 6, 2), overlay.Remote{Addr: addr6(6), MAC: overlaytest.MAC(6), VTEP: b.vtep}))
	b.set(t, b.blueOn(true, overlaytest.Remote(b.vtep, 5, 1), overlay.Remote{Addr: addr6(5), MAC: overlaytest.MAC(5), VTEP: a.vtep}))
	from := a.attachDual(t, 5)
	listeners := map[byte]*net.UDPConn{6: listen(t, b.attachDual(t, 6)), 7: listen(t, a.attachDual(t, 7))}
	for i := range listeners {
		sh(t, "ip netns exec %s ping -c1 -W2 %s; ip netns exec %s ping -c1 -W2 %s", from, overlaytest.Addr(i), from, addr6(i))
	}
	var sender *net.UDPConn
	inNetns(t, from, func() (err error) {
		sender, err = net.ListenUDP("udp4", &net.UDPAddr{IP: overlaytest.Addr(5).AsSlice()})
		return err
	})
	defer sender.Close()
	send := func(to netip.Addr, text string) {
		_, err := sender.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(to, 5353))
		must(t, err)
	}
	for i, c := range listeners {
		for _, group := range []string{"10.64.0.255", "255.255.255.255", "224.0.0.251"} {
			send(netip.MustParseAddr(group), group)
		}
		send(overlaytest.Addr(i), "for you")
		if got := heard(t, c); !slices.Equal(got, []string{"for you"}) {
			t.Errorf("endpoint %d heard %q", i, got)
		}
	}
	sh(t, "ip -n %s neigh flush all", from)
	for i := range listeners {
		sh(t, "ip netns exec %s ping -c1 -W2 %s; ip netns exec %s ping -c1 -W2 %s", from, overlaytest.Addr(i), from, addr6(i))
	}
}

// listen is a socket for what comes to a sandbox at the port of mDNS, of its group
// too.
func listen(t *testing.T, sandbox string) (c *net.UDPConn) {
	t.Helper()
	inNetns(t, sandbox, func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 5353})
		if err != nil {
			return err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		joined := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
				&unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 251}, Ifindex: int32(dev.Index)})
		})
		must(t, joined)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// heard is what came until what is for this one alone, which came last.
func heard(t *testing.T, c *net.UDPConn) (all []string) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	buf := make([]byte, 64)
	for !slices.Contains(all, "for you") {
		n, err := c.Read(buf)
		if err != nil {
			t.Errorf("%v after %q", err, all)
			return all
		}
		all = append(all, string(buf[:n]))
	}
	return all
}
