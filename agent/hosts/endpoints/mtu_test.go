package endpoints_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// overhead is what the tunnel adds to a packet over IPv4: the inner Ethernet
// header, VXLAN, UDP and IP (RFC 7348, section 5).
const overhead = 14 + 8 + 8 + 20

func TestInterfaceHasTheUnderlaysMTULessTheOverhead(t *testing.T) {
	t.Parallel()
	for _, underlay := range []int{1400, 1500, 9000} {
		t.Run(fmt.Sprint(underlay), func(t *testing.T) {
			t.Parallel()
			l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2, UnderlayMTU: underlay})
			l.Host(1).CreateNetwork("blue")
			one, a := l.Host(1).Endpoint("blue", "one")
			two, b := l.Host(2).Endpoint("blue", "two")
			mtu := underlay - overhead
			for _, got := range []agenttest.Attachment{a, b} {
				if got.MTU != mtu {
					t.Errorf("attach says mtu %d, want %d", got.MTU, mtu)
				}
			}
			for _, s := range []*agenttest.Sandbox{one, two} {
				if out := s.NS.Must(t, "ip", "-o", "link", "show", "eth0"); !strings.Contains(out, fmt.Sprintf(" mtu %d ", mtu)) {
					t.Errorf("want mtu %d: %s", mtu, out)
				}
			}
			agenttest.Eventually(t, 5*time.Second, "two is reached", func() error { return one.PingOnce(b.Addr()) })
			// The largest packet crosses whole, one byte more is refused at the
			// sender. The headers of ICMP and IP are 28 bytes.
			if r := one.NS.Run("ping", "-c1", "-W1", "-Mdo", fmt.Sprintf("-s%d", mtu-28), b.Addr().String()); r.Code != 0 {
				t.Errorf("a packet of the full MTU: %s", r)
			}
			if r := one.NS.Run("ping", "-c1", "-W1", "-Mdo", fmt.Sprintf("-s%d", mtu-27), b.Addr().String()); r.Code == 0 {
				t.Errorf("a packet larger than the MTU passed: %s", r)
			}
			transfer(t, one, two, b.Addr(), 200<<20)
		})
	}
}

// transfer sends bytes over TCP and fails unless all of them arrive unchanged.
func transfer(t *testing.T, from, to *agenttest.Sandbox, addr netip.Addr, bytes int64) {
	t.Helper()
	at := netip.AddrPortFrom(addr, 5001)
	l, err := to.NS.ListenTCP(at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(time.Minute))
	sent := make(chan error, 1)
	want := sha256.New()
	go func() {
		conn, err := from.NS.DialTCP(at)
		if err != nil {
			sent <- err
			return
		}
		_, err = io.CopyN(io.MultiWriter(conn, want), rand.NewChaCha8([32]byte{1}), bytes)
		sent <- errors.Join(err, conn.Close())
	}()
	conn, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := sha256.New()
	n, err := io.Copy(got, conn)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	if n != bytes || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("%d of %d bytes arrived, the same: %t", n, bytes, string(got.Sum(nil)) == string(want.Sum(nil)))
	}
}
