package agenttest

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// Seen connects from the namespace to a Mirror, over "tcp" or "udp", and returns
// the address that it was seen with.
func (n Netns) Seen(network string, to netip.AddrPort) (string, error) {
	var conn net.Conn
	var err error
	if network == "udp" {
		conn, err = n.DialUDP(to)
	} else {
		conn, err = n.DialTCP(to)
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte("who am I")); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	length, err := conn.Read(buf)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(string(buf[:length]))
	return host, err
}

// Mirror tells every client of port 80 in the namespace what it sees of it, over
// TCP as long as the client asks, and over UDP.
func (n Netns) Mirror(t testing.TB) {
	t.Helper()
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), 80)
	tcp, err := n.ListenTCP(at)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := n.ListenUDP(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					_, _ = c.Write([]byte(c.RemoteAddr().String()))
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			seen := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			_, _ = udp.WriteToUDPAddrPort([]byte(seen.String()), from)
		}
	}()
}
