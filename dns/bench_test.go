package dns

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// BenchmarkSocket answers one name of 50 000 over UDP, and compares with a bare
// miekg/dns server that answers every question alike, in the same process and
// the same run. The queries per CPU second include the client's share, which is
// the same for both.
func BenchmarkSocket(b *testing.B) {
	s := serve(b, Config{})
	s.zone.Networks[0].Names = manyNames(50_000)
	s.Set(s.zone)
	bare := bareServer(b)
	packet := packed(b, func(m *miekg.Msg) { m.Question[0].Name = "web-12345.blue.weft.internal." })
	for _, server := range []struct {
		name string
		addr netip.AddrPort
	}{{"weft", s.addr}, {"miekg", bare}} {
		b.Run(server.name, func(b *testing.B) {
			before := cpuTime(b)
			flood(b, s.client, server.addr, packet, b.N)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
			b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "queries/cpu-s")
		})
	}
}

// bareServer is the library's own server with a handler that does the least.
func bareServer(b *testing.B) netip.AddrPort {
	sock, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback(), 0)))
	if err != nil {
		b.Fatal(err)
	}
	srv := &miekg.Server{PacketConn: sock, Handler: miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		_ = w.WriteMsg(answerWith(q, "192.0.2.10"))
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	b.Cleanup(func() {
		_ = srv.Shutdown()
		<-done
	})
	return sock.LocalAddr().(*net.UDPAddr).AddrPort()
}

// flood sends n queries and reads as many replies, over two sockets with 64 in
// flight on each.
func flood(b *testing.B, from netip.Addr, to netip.AddrPort, packet []byte, n int) {
	const sockets, window = 2, 64
	var wg sync.WaitGroup
	for i := range sockets {
		conn := dialFrom(b, "udp", from, to).Conn
		share := n / sockets
		if i == 0 {
			share += n % sockets
		}
		wg.Go(func() {
			buf := make([]byte, maxQuery)
			for sent, got := 0, 0; got < share; got++ {
				for ; sent < share && sent < got+window; sent++ {
					if _, err := conn.Write(packet); err != nil {
						b.Error(err)
						return
					}
				}
				_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
				if _, err := conn.Read(buf); err != nil {
					b.Errorf("after %d of %d: %v", got, share, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHandle is one query from packet to packet, without the sockets.
func BenchmarkHandle(b *testing.B) {
	z := testZone()
	z.Networks[0].Names = manyNames(10_000)
	s := New(Config{})
	s.view.Store(newView(z, s.view.Load(), true))
	packet := packed(b, func(m *miekg.Msg) { m.Question[0].Name = "web-05000.blue.weft.internal." })
	out := make([]byte, 0, maxQuery)
	b.ReportAllocs()
	for b.Loop() {
		if reply, _ := s.handle(packet, blueClient, listenKey{}, out); len(reply) == 0 {
			b.Fatal("no reply")
		}
	}
}
