package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Of a stopped Server nothing may be left.
	goleak.VerifyTestMain(m)
}

// Everything below runs on the loopback device. Each test has addresses of its
// own there, so that tests can run side by side, in other processes too.
func loopback() netip.Addr {
	n := rand.Uint32()
	return netip.AddrFrom4([4]byte{127, byte(n>>16) | 0x10, byte(n >> 8), byte(n) | 1})
}

// freePort returns a port that nobody has on a, over UDP and TCP.
func freePort(t testing.TB, a netip.Addr) uint16 {
	t.Helper()
	sock, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	return sock.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// site is a running server and its client's address.
type site struct {
	*Server
	addr   netip.AddrPort
	client netip.Addr
	zone   Zone
}

// loopZone is testZone's first network, and an internal one, on the loopback
// device.
func loopZone(gateway, client, inside netip.Addr) Zone {
	z := testZone()
	z.Networks = []Network{z.Networks[0], z.Networks[2]}
	z.Networks[0].Device, z.Networks[0].Gateways = "lo", []netip.Addr{gateway}
	z.Networks[1].Device = ""
	z.Clients = []Client{{"lo", client, []string{"blue"}}, {"lo", inside, []string{"secret"}}}
	return z
}

func serve(t testing.TB, cfg Config) *site {
	t.Helper()
	gateway, client := loopback(), loopback()
	if cfg.Port == 0 {
		cfg.Port = freePort(t, gateway)
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = t.TempDir() + "/none"
	}
	s := &site{New(cfg), netip.AddrPortFrom(gateway, cfg.Port), client, loopZone(gateway, client, client.Next())}
	run(t, s.Server)
	s.Set(s.zone)
	if p := s.Problems(); len(p) > 0 {
		t.Fatal(p)
	}
	return s
}

// run runs s until the test ends.
func run(t testing.TB, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// dial connects from the client's address.
func (s *site) dial(t testing.TB, network string) *miekg.Conn {
	t.Helper()
	return dialFrom(t, network, s.client, s.addr)
}

func dialFrom(t testing.TB, network string, from netip.Addr, to netip.AddrPort) *miekg.Conn {
	t.Helper()
	local := netip.AddrPortFrom(from, 0)
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(local)}
	if network == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	conn, err := d.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &miekg.Conn{Conn: conn, UDPSize: maxQuery}
}

// exchange asks on conn and returns the answer, nil if none came in time.
func exchange(t testing.TB, conn *miekg.Conn, name string, within time.Duration, change ...func(*miekg.Msg)) *miekg.Msg {
	t.Helper()
	q := new(miekg.Msg).SetQuestion(miekg.Fqdn(name), miekg.TypeA)
	for _, c := range change {
		c(q)
	}
	if err := conn.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	return read(t, conn, within)
}

func read(t testing.TB, conn *miekg.Conn, within time.Duration) *miekg.Msg {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(within))
	m, err := conn.ReadMsg()
	if err != nil {
		t.Logf("read: %v", err)
		return nil
	}
	return m
}

// rcode is the answer's, "silence" without one.
func rcode(m *miekg.Msg) string {
	if m == nil {
		return "silence"
	}
	return miekg.RcodeToString[m.Rcode]
}

func TestServesOverUDPAndTCP(t *testing.T) {
	s := serve(t, Config{})
	for _, network := range []string{"udp", "tcp"} {
		m := exchange(t, s.dial(t, network), "WEB.blue", time.Second)
		if m == nil || len(m.Answer) != 1 || m.Answer[0].(*miekg.A).A.String() != "192.0.2.10" || m.Question[0].Name != "WEB.blue." {
			t.Errorf("%s: %v", network, m)
		}
		host := exchange(t, dialFrom(t, network, loopback(), s.addr), "web", time.Second)
		if rcode(host) != "NOERROR" {
			t.Errorf("%s: host got %s", network, rcode(host))
		}
	}
}

func TestZoneIsSwappedWhenSetReturns(t *testing.T) {
	s := serve(t, Config{})
	conn := s.dial(t, "udp")
	for i := range 50 {
		want := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		s.zone.Networks = append([]Network(nil), s.zone.Networks...)
		s.zone.Networks[0].Names = []Name{{Name: "web", Addrs: []netip.Addr{want}}}
		s.Set(s.zone)
		m := exchange(t, conn, "web", time.Second)
		if m == nil || m.Answer[0].(*miekg.A).A.String() != want.String() {
			t.Fatalf("after Set %d: %v", i, m)
		}
	}
}

func TestListenersFollowTheZone(t *testing.T) {
	s := serve(t, Config{})
	other := netip.AddrPortFrom(loopback(), s.addr.Port())
	with := s.zone
	with.Networks = append([]Network{}, s.zone.Networks...)
	with.Networks = append(with.Networks, Network{Name: "more", Device: "lo", Gateways: []netip.Addr{other.Addr()}, HostAccess: true})
	kept := s.dial(t, "tcp") // stays through all changes
	for range 3 {
		s.Set(with)
		if m := exchange(t, dialFrom(t, "udp", s.client, other), "web", time.Second); rcode(m) != "NOERROR" {
			t.Fatalf("added: %s", rcode(m))
		}
		s.Set(s.zone)
		conn := dialFrom(t, "udp", s.client, other)
		_ = conn.WriteMsg(new(miekg.Msg).SetQuestion("web.", miekg.TypeA))
		if m := read(t, conn, time.Second); m != nil {
			t.Fatalf("removed: %v", m)
		}
	}
	if m := exchange(t, kept, "web", time.Second); rcode(m) != "NOERROR" {
		t.Errorf("connection of the network that stayed: %s", rcode(m))
	}
}

// TestNoQueryIsLostWhileNetworksComeAndGo keeps a fixed number of queries in
// flight on one network, while others come and go.
func TestNoQueryIsLostWhileNetworksComeAndGo(t *testing.T) {
	s := serve(t, Config{})
	var sent, answered, sets atomic.Int64
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		conn := s.dial(t, "udp")
		wg.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if exchange(t, conn, "web.blue.weft.internal", 2*time.Second) != nil {
					answered.Add(1)
				}
			}
		})
	}
	for ctx.Err() == nil {
		z := s.zone
		z.Networks = append([]Network(nil), s.zone.Networks...)
		for i := range rand.IntN(4) {
			z.Networks = append(z.Networks, Network{Name: fmt.Sprint("n", i), Device: "lo", Gateways: []netip.Addr{loopback()}})
		}
		s.Set(z)
		sets.Add(1)
	}
	wg.Wait()
	t.Logf("%d queries, %d Sets in 2 s", sent.Load(), sets.Load())
	if lost := sent.Load() - answered.Load(); lost > 0 || sets.Load() < 10 || sent.Load() < 100 {
		t.Errorf("%d of %d queries lost over %d Sets", lost, sent.Load(), sets.Load())
	}
}

func TestTakenAddressIsAProblemThatNamesTheHolder(t *testing.T) {
	gateway := loopback()
	port := freePort(t, gateway)
	addr := netip.AddrPortFrom(gateway, port)
	for held, hold := range map[string]func() (io.Closer, error){
		"tcp": func() (io.Closer, error) { return net.Listen("tcp4", addr.String()) },
		"udp": func() (io.Closer, error) { return net.ListenPacket("udp4", fmt.Sprint(":", port)) },
	} {
		holder, err := hold()
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{Port: port})
		run(t, s)
		s.Set(loopZone(gateway, loopback(), loopback()))
		problems := s.Problems()
		if len(problems) != 1 || !errors.Is(problems[0], syscall.EADDRINUSE) {
			t.Fatalf("%s held: got %v, want it in use", held, problems)
		}
		want := fmt.Sprintf("listen on %s %s on lo: address already in use: held by dns.test (pid %d)", held, addr, os.Getpid())
		if got := problems[0].Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		// The other protocol is not in anybody's way.
		other := map[string]string{"tcp": "udp", "udp": "tcp"}[held]
		if m := exchange(t, dialFrom(t, other, loopback(), addr), "web", time.Second); rcode(m) != "NOERROR" {
			t.Errorf("%s held, over %s: %s", held, other, rcode(m))
		}
		holder.Close()
		eventually(t, 3*time.Second, func() bool { return len(s.Problems()) == 0 })
		if m := exchange(t, dialFrom(t, held, loopback(), addr), "web", time.Second); rcode(m) != "NOERROR" {
			t.Errorf("%s free again: %s", held, rcode(m))
		}
		s.Set(Zone{})
	}
}

// eventually waits until ok.
func eventually(t testing.TB, within time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s", within)
}

func TestMissingDeviceIsAProblem(t *testing.T) {
	var out lockedBuffer
	s := New(Config{Port: 5353, Log: slog.New(slog.NewTextHandler(&out, nil))})
	run(t, s)
	s.Set(testZone()) // its devices do not exist
	problems := s.Problems()
	if len(problems) != 6 || problems[0].Error() != "listen on tcp 192.0.2.1:5353 on g1: no such device" {
		t.Errorf("got %q", problems)
	}
	s.Set(Zone{})
	if problems := s.Problems(); len(problems) > 0 {
		t.Errorf("of networks that are gone: %q", problems)
	}
	if out.String() != "" { // ordinary while a network comes or goes
		t.Errorf("logged %s", out.String())
	}
}

// lockedBuffer is a log that the server and the test share.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestProcSockets(t *testing.T) {
	const udp = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  101: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 15123 2 0000000000000000 0
  102: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20001 2 0000000000000000 0
  103: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20002 2 0000000000000000 0
  104: 010200C0:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20003 2 0000000000000000 0
`
	const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 30001 1
   1: 00000000000000000000000000000000:0035 B80D0120000000000000000001000000:C350 01 00000000:00000000 00:00000000 00000000     0        0 30002 1
`
	want := netip.MustParseAddrPort("192.0.2.1:53")
	if got := fmt.Sprint(matchSockets([]byte(udp), want, false)); got != "[20001 20003]" {
		t.Errorf("udp: %s", got)
	}
	if got := fmt.Sprint(matchSockets([]byte(tcp6), want, true)); got != "[30001]" {
		t.Errorf("tcp6: %s", got)
	}
}

func TestRandomDatagramsDoNotStopTheServer(t *testing.T) {
	s := serve(t, Config{})
	conn := s.dial(t, "udp")
	for range 2000 {
		junk := make([]byte, rand.IntN(600))
		for i := range junk {
			junk[i] = byte(rand.Uint32())
		}
		if _, err := conn.Conn.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	if m := exchange(t, s.dial(t, "udp"), "web", time.Second); rcode(m) != "NOERROR" {
		t.Error(rcode(m))
	}
	eventually(t, time.Second, func() bool { return s.stats.queries.Load() == 2001 })
}

// askedWhile fails the test if another client's query takes long.
func askedWhile(t *testing.T, s *site) {
	t.Helper()
	start := time.Now()
	for _, network := range []string{"udp", "tcp"} {
		if m := exchange(t, dialFrom(t, network, loopback(), s.addr), "web", time.Second); rcode(m) != "NOERROR" {
			t.Errorf("another client over %s: %s", network, rcode(m))
		}
	}
	if took := time.Since(start); took > prompt {
		t.Errorf("other clients waited %s", took)
	}
}

// A connection is good for as many queries as a client has, sent before it reads the
// first answer or not, of local names or others.
func TestTCPAnswersAsManyQueriesAsAsked(t *testing.T) {
	const queries = 3000
	up := with(t, "203.0.113.5")
	s := through(t, up)
	conn := s.dial(t, "tcp")
	var all []byte
	for i := range queries {
		name := "web."
		if i%50 == 0 {
			name = fmt.Sprintf("n%d.example.", i)
		}
		q := new(miekg.Msg).SetQuestion(name, miekg.TypeA)
		q.Id = uint16(i)
		wire, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, framed(wire)...)
	}
	go func() { _, _ = conn.Conn.Write(all) }()
	seen := map[uint16]bool{}
	for range queries {
		m := read(t, conn, 5*time.Second)
		if rcode(m) != "NOERROR" || len(m.Answer) != 1 || seen[m.Id] {
			t.Fatalf("answer %d: %v", len(seen), m)
		}
		seen[m.Id] = true
	}
}

// What was answered before the end of a connection arrives, whatever the client has
// sent behind it.
func TestTCPAnswersArriveBeforeTheEnd(t *testing.T) {
	s := serve(t, Config{})
	q := packed(t, func(m *miekg.Msg) { m.Question[0].Name = "web." })
	for range 20 {
		conn := s.dial(t, "tcp")
		const queries = 200
		all := bytes.Repeat(framed(q), queries)
		all = append(all, 0, 1)                                // no message is that short
		all = append(all, bytes.Repeat([]byte{0}, 200_000)...) // and this is not read as any
		go func() { _, _ = conn.Conn.Write(all) }()
		for i := range queries {
			if m := read(t, conn, 2*time.Second); rcode(m) != "NOERROR" {
				t.Fatalf("answer %d: %s", i, rcode(m))
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("got %v, want the end of the connection", err)
		}
	}
}

func TestTCPBadLengthEndsTheConnection(t *testing.T) {
	s := serve(t, Config{})
	for _, length := range []uint16{0, 1, 11, maxQuery + 1, 65535} {
		conn := s.dial(t, "tcp").Conn
		if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, length)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("length %d: got %v, want the end of the connection", length, err)
		}
	}
	askedWhile(t, s)
}

// TestTCPSlowClientsAreLetGo lets hours pass in no time, on a pipe.
func TestTCPSlowClientsAreLetGo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration // one byte
		bytes int
	}{{"says nothing", time.Hour, 0}, {"a byte every 3 s", 3 * time.Second, 4}, {"half of a query", 0, 20}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go New(Config{}).serveConn(server, blueClient, listenKey{tcp: true})
				start := time.Now()
				for _, b := range framed(packed(t, func(*miekg.Msg) {}))[:tt.bytes] {
					if _, err := client.Write([]byte{b}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(tt.every)
				}
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) > tcpIdle+tt.every {
					t.Errorf("after %s: %v", time.Since(start), err)
				}
			})
		})
	}
}

func TestTCPByteAtATimeHoldsNobodyUp(t *testing.T) {
	s := serve(t, Config{})
	wire := framed(packed(t, func(*miekg.Msg) {}))
	conns := make([]*miekg.Conn, 10)
	for i := range conns {
		conns[i] = s.dial(t, "tcp")
	}
	for _, b := range wire {
		for _, c := range conns {
			if _, err := c.Conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		askedWhile(t, s)
	}
	for _, c := range conns {
		if m := read(t, c, time.Second); rcode(m) != "NOERROR" {
			t.Errorf("slow client: %s", rcode(m))
		}
	}
}

func TestTCPHalfOpenClientStillGetsItsAnswer(t *testing.T) {
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		time.AfterFunc(200*time.Millisecond, func() { _ = w.WriteMsg(answerWith(q, "203.0.113.5")) })
	})
	s := serve(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	conn := s.dial(t, "tcp")
	if err := conn.WriteMsg(new(miekg.Msg).SetQuestion("example.com.", miekg.TypeA)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if m := read(t, conn, time.Second); rcode(m) != "NOERROR" {
		t.Error(rcode(m))
	}
}

func TestTCPClientThatDoesNotReadIsItsOwnProblem(t *testing.T) {
	s := serve(t, Config{})
	for range 8 {
		conn := s.dial(t, "tcp")
		_ = conn.Conn.(*net.TCPConn).SetReadBuffer(1)
		for range 1000 {
			if conn.WriteMsg(new(miekg.Msg).SetQuestion("web.", miekg.TypeA)) != nil {
				break
			}
		}
	}
	askedWhile(t, s)
}

func TestTCPConnectionsOfOneSourceAreBounded(t *testing.T) {
	s := serve(t, Config{})
	for range 500 {
		s.dial(t, "tcp")
	}
	askedWhile(t, s)
	eventually(t, 2*time.Second, func() bool { return s.stats.connsOver.Load() == 500-tcpPerSource })
}

func TestTCPAnswersOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, func(w miekg.ResponseWriter, q *miekg.Msg) {
		<-release
		_ = w.WriteMsg(answerWith(q, "203.0.113.5"))
	})
	s := serve(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	conn := s.dial(t, "tcp")
	for _, name := range []string{"example.com.", "web."} {
		if err := conn.WriteMsg(new(miekg.Msg).SetQuestion(name, miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	for i := range 2 {
		if m := read(t, conn, time.Second); m != nil {
			order = append(order, m.Question[0].Name)
		}
		if i == 0 {
			close(release)
		}
	}
	if got := strings.Join(order, " "); got != "web. example.com." {
		t.Errorf("order %s", got)
	}
}
