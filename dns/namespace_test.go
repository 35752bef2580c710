package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// insideEnv is set in the child process that has a network namespace to itself.
const insideEnv = "WEFT_DNS_TEST_INSIDE"

// patience is for a machine with more to do than this test.
const patience = 10 * time.Second

// TestOnDevices runs itself again in a process with a network namespace of its
// own: nothing that it makes outlives it.
func TestOnDevices(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		onDevices(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8) to make devices")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOnDevices$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		t.Log(strings.TrimSuffix(line, "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// namespace is a network namespace that lives as long as one locked thread.
type namespace struct {
	tid   int
	calls chan func()
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{calls: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		n.tid = unix.Gettid()
		made <- err
		for call := range n.calls {
			call()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.calls) })
	return n
}

// do runs f inside.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.calls <- func() { defer close(done); f() }
	<-done
}

func (n *namespace) ip(t *testing.T, lines ...string) {
	t.Helper()
	n.do(func() { ip(t, lines...) })
}

// dial opens the socket inside; it can be used from anywhere then.
func (n *namespace) dial(t *testing.T, network string, from, to string) (conn *miekg.Conn) {
	t.Helper()
	n.do(func() { conn = dialFrom(t, network, netip.MustParseAddr(from), netip.MustParseAddrPort(to)) })
	return conn
}

// ip runs ip(8) in the namespace of the calling thread.
func ip(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %s%v", line, out, err)
		}
	}
}

// plug joins a new namespace to this one by a gateway port, as a network's
// endpoint is.
func plug(t *testing.T, device, gateway, client string) *namespace {
	t.Helper()
	n := newNamespace(t)
	ip(t,
		"link add "+device+" type veth peer name c"+device,
		fmt.Sprintf("link set c%s netns %d name eth0", device, n.tid),
		"addr add "+gateway+" dev "+device+" nodad",
		"link set "+device+" up")
	n.ip(t, "addr add "+client+" dev eth0 nodad", "link set eth0 up")
	// Until the kernel has seen the carrier it throws away what is sent.
	eventually(t, patience, func() (ok bool) {
		n.do(func() { ok = running("eth0") })
		return ok && running(device)
	})
	return n
}

func running(device string) bool {
	i, err := net.InterfaceByName(device)
	return err == nil && i.Flags&net.FlagRunning != 0
}

// onDevices runs in the process that TestOnDevices starts.
func onDevices(t *testing.T) {
	ip(t, "link set lo up", "link add under0 type veth peer name under1", "addr add 203.0.113.1/24 dev under0", "link set under0 up", "link set under1 up")
	for _, kind := range []string{"all", "default"} {
		// Two networks with one subnet are both right about where a packet comes from.
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+kind+"/rp_filter", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("overlapping networks", insideOverlap)
	t.Run("the host asks", insideHost)
	t.Run("IPv6", insideIPv6)
	t.Run("the shared address", insideShared)
	t.Run("a device that comes later", insideLater)
	t.Run("load", insideLoad)
}

// inside runs a server for z in this namespace.
func inside(t *testing.T, z Zone) *Server {
	t.Helper()
	s := New(Config{ResolvConf: t.TempDir() + "/none"})
	run(t, s)
	s.Set(z)
	return s
}

func noProblems(t *testing.T, s *Server) {
	t.Helper()
	if p := s.Problems(); len(p) > 0 {
		t.Fatal(p)
	}
}

// insideOverlap: the same gateway address, the same client address and the same
// name in two networks.
func insideOverlap(t *testing.T) {
	one, two := plug(t, "g1", "192.0.2.1/24", "192.0.2.10/24"), plug(t, "g2", "192.0.2.1/24", "192.0.2.10/24")
	z := testZone()
	z.Networks = z.Networks[:2]
	noProblems(t, inside(t, z))
	for _, tt := range []struct {
		network string
		ns      *namespace
		want    string
	}{{"udp", one, "192.0.2.10"}, {"udp", two, "192.0.2.11"}, {"tcp", one, "192.0.2.10"}, {"tcp", two, "192.0.2.11"}} {
		m := exchange(t, tt.ns.dial(t, tt.network, "192.0.2.10", "192.0.2.1:53"), "web", patience)
		if first(m) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.network, first(m), tt.want)
		}
	}
	one.ip(t, "addr add 192.0.2.99/24 dev eth0")
	if m := exchange(t, one.dial(t, "udp", "192.0.2.99", "192.0.2.1:53"), "web", patience); rcode(m) != "REFUSED" {
		t.Errorf("a stranger: %s", rcode(m))
	}
	ip(t, "link del g1", "link del g2")
}

// insideHost: the host asks a gateway address from every address that it has.
// Without a choice of its own it asks from the gateway address, and over TCP
// only that is heard: a connection's replies are bound to the gateway port.
func insideHost(t *testing.T) {
	plug(t, "g1", "192.0.2.1/24", "192.0.2.10/24")
	z := testZone()
	z.Networks = z.Networks[:1]
	noProblems(t, inside(t, z))
	for _, from := range []string{"0.0.0.0", "192.0.2.1", "203.0.113.1", "127.0.0.1"} {
		for _, network := range []string{"udp", "tcp"} {
			if network == "tcp" && (from == "203.0.113.1" || from == "127.0.0.1") {
				continue
			}
			t.Run(network+" from "+from, func(t *testing.T) {
				conn := dialFrom(t, network, netip.MustParseAddr(from), netip.MustParseAddrPort("192.0.2.1:53"))
				if m := exchange(t, conn, "web", patience); first(m) != "192.0.2.10" {
					t.Errorf("got %s", first(m))
				}
			})
		}
	}
	ip(t, "link del g1")
}

// insideShared: one address answers each asker as who it is, the host included,
// and tells apart two networks with one subnet.
func insideShared(t *testing.T) {
	ip(t, "addr add 169.254.53.53/32 dev lo scope host")
	one, two := plug(t, "g1", "192.0.2.1/24", "192.0.2.10/24"), plug(t, "g2", "192.0.2.1/24", "192.0.2.10/24")
	other := plug(t, "docker0", "198.51.100.129/25", "198.51.100.130/25")
	for ns, gateway := range map[*namespace]string{one: "192.0.2.1", two: "192.0.2.1", other: "198.51.100.129"} {
		ns.ip(t, "route add default via "+gateway)
	}
	z := testZone()
	z.Networks = z.Networks[:2]
	z.Address = addrs("169.254.53.53")[0]
	s := inside(t, z)
	noProblems(t, s)
	for _, tt := range []struct {
		ns         *namespace
		from, want string
	}{{one, "192.0.2.10", "192.0.2.10"}, {two, "192.0.2.10", "192.0.2.11"}} {
		if m := exchange(t, tt.ns.dial(t, "udp", tt.from, "169.254.53.53:53"), "web", patience); first(m) != tt.want {
			t.Errorf("got %s, want %s", first(m), tt.want)
		}
	}
	// Over TCP the address alone is known, and two have it.
	if m := exchange(t, one.dial(t, "tcp", "192.0.2.10", "169.254.53.53:53"), "web", patience); rcode(m) != "REFUSED" {
		t.Errorf("an address of two endpoints got %s over TCP", rcode(m))
	}
	one.ip(t, "addr add 192.0.2.20/24 dev eth0")
	for range 20 { // sockets are made in any order
		s.Set(Zone{})
		s.Set(z)
		for _, network := range []string{"udp", "tcp"} {
			if m := exchange(t, one.dial(t, network, "192.0.2.20", "169.254.53.53:53"), "cache", patience); first(m) != "192.0.2.60" {
				t.Errorf("%s: got %s", network, first(m))
			}
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		full := func(m *miekg.Msg) { m.Question[0].Name = "web.blue.weft.internal." }
		m := exchange(t, other.dial(t, network, "198.51.100.130", "169.254.53.53:53"), "web.blue.weft.internal", patience, full)
		if rcode(m) != "NXDOMAIN" || !m.Authoritative {
			t.Errorf("%s: a neighbour got %s", network, rcode(m))
		}
		host := dialFrom(t, network, netip.IPv4Unspecified(), netip.MustParseAddrPort("169.254.53.53:53"))
		if m := exchange(t, host, "web", patience); first(m) != "192.0.2.10" {
			t.Errorf("%s: the host got %s", network, first(m))
		}
	}
	ip(t, "link del g1", "link del g2", "link del docker0", "addr del 169.254.53.53/32 dev lo")
}

func insideIPv6(t *testing.T) {
	ns := plug(t, "g6", "2001:db8::1/64", "2001:db8::6/64")
	z := testZone()
	z.Networks = z.Networks[3:]
	z.Networks[0].Device, z.Networks[0].Gateways = "g6", addrs("2001:db8::1")
	z.Clients = []Client{{"g6", addrs("2001:db8::6")[0], []string{"v6"}}}
	noProblems(t, inside(t, z))
	quad := func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }
	for _, network := range []string{"udp", "tcp"} {
		m := exchange(t, ns.dial(t, network, "2001:db8::6", "[2001:db8::1]:53"), "six", patience, quad)
		if m == nil || len(m.Answer) != 1 {
			t.Errorf("%s: client got %s", network, rcode(m))
		}
		host := dialFrom(t, network, addrs("2001:db8::1")[0], netip.MustParseAddrPort("[2001:db8::1]:53"))
		if m := exchange(t, host, "six", patience, quad); m == nil || len(m.Answer) != 1 {
			t.Errorf("%s: host got %s", network, rcode(m))
		}
	}
	ip(t, "link del g6")
}

// insideLater: the device is not there yet, its address neither; then it is
// made again under the same name, with another index.
func insideLater(t *testing.T) {
	z := testZone()
	z.Networks = z.Networks[:1]
	s := inside(t, z)
	if n := len(s.Problems()); n != 2 {
		t.Errorf("%d problems while the device is missing, want 2", n)
	}
	for range 2 {
		ns := plug(t, "g1", "192.0.2.2/24", "192.0.2.10/24")
		eventually(t, patience, func() bool { return len(s.Problems()) == 0 })
		ip(t, "addr add 192.0.2.1/24 dev g1") // after the socket: IP_FREEBIND
		eventually(t, patience, func() bool {
			return rcode(exchange(t, ns.dial(t, "udp", "192.0.2.10", "192.0.2.1:53"), "web", 200*time.Millisecond)) == "NOERROR"
		})
		ip(t, "link del g1")
	}
	s.Set(z)
	if n := len(s.Problems()); n != 2 {
		t.Errorf("%d problems after the device went, want 2", n)
	}
}

// insideLoad: 20 000 queries a second on one network, at a steady pace, while
// others are added and removed a thousand times a second: none is lost. A
// machine that is too slow for that pace is given a slower one: the queues on
// the way hold what is in flight, so a loss is ours.
func insideLoad(t *testing.T) {
	const rate, span = 20_000, 3 * time.Second
	ns := plug(t, "g1", "192.0.2.1/24", "192.0.2.10/24")
	z := testZone()
	z.Networks = z.Networks[:1]
	for i := range 4 {
		ip(t, fmt.Sprintf("link add d%d type veth peer name e%d", i, i), fmt.Sprintf("link set d%d up", i))
	}
	s := inside(t, z)
	noProblems(t, s)
	conn := ns.dial(t, "udp", "192.0.2.10", "192.0.2.1:53").Conn.(*net.UDPConn)
	largeBuffer(t, conn)
	packet := packed(t, func(*miekg.Msg) {})

	var answered atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, maxQuery)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			answered.Add(1)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	sets := 0
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; sets++ {
			<-tick.C
			with := z
			with.Networks = append([]Network(nil), z.Networks...)
			for i := range sets % 5 {
				gateway := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
				with.Networks = append(with.Networks, Network{Name: fmt.Sprint("n", i), Device: fmt.Sprint("d", i), Gateways: []netip.Addr{gateway}})
			}
			s.Set(with)
		}
	})
	sent := paced(ctx, t, conn, packet, rate, &answered)
	lost := func() int64 { return sent - answered.Load() }
	for end := time.Now().Add(patience); lost() > 0 && time.Now().Before(end); {
		runtime.Gosched()
	}
	conn.Close()
	wg.Wait()
	t.Logf("%d queries in %s, %d Sets, %d lost", sent, span, sets, lost())
	if lost() > 0 || sets < 20 {
		t.Errorf("%d of %d queries lost over %d Sets", lost(), sent, sets)
	}
	ip(t, "link del g1")
}

// largeBuffer makes sure that what is lost is not lost by the client.
func largeBuffer(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// paced writes packet rate times a second until ctx ends, with at most some
// hundreds unanswered.
func paced(ctx context.Context, t *testing.T, conn net.Conn, packet []byte, rate int64, answered *atomic.Int64) (sent int64) {
	t.Helper()
	const inFlight = 500
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ctx.Err() == nil; <-tick.C {
		for due := min(int64(time.Since(start))*rate/int64(time.Second), answered.Load()+inFlight); sent < due; sent++ {
			if _, err := conn.Write(packet); err != nil {
				t.Error(err)
				return sent
			}
		}
	}
	return sent
}
