package endpoints_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestPublishedPortsReachTheEndpointFromEverywhere(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h1, h2 := l.Host(1), l.Host(2)
	blue := h1.CreateNetwork("blue")
	h1.CreateNetwork("green")
	shut := h1.CreateNetwork("shut", "-o", "host_access=none")
	web, a := h1.Endpoint("blue", "web", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80", "-p", "127.0.0.1:8081:80/udp")
	web.NS.Mirror(t)
	if got, want := strings.Join(a.Ports, ", "),
		"0.0.0.0:8080->80/tcp, 0.0.0.0:8080->80/udp, 127.0.0.1:8081->80/tcp, 127.0.0.1:8081->80/udp"; got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
	near, _ := h1.Endpoint("blue", "near")
	other, _ := h1.Endpoint("green", "other")
	far, _ := h2.Endpoint("blue", "far")
	closed, _ := h1.Endpoint("shut", "closed", "-p", "8085:80", "-p", "8085:80/udp")
	closed.NS.Mirror(t)
	without, _ := h1.Endpoint("blue", "without", "--no-default-route", "-p", "8086:80", "-p", "8086:80/udp")
	without.NS.Mirror(t)

	gateway := blue.Gateway().String()
	public, local := netip.AddrPortFrom(h1.Addr, 8080), netip.AddrPortFrom(loopback, 8080)
	for _, row := range []struct {
		name string
		by   agenttest.Netns
		to   netip.AddrPort
		seen string
	}{
		{"another host", h2.NS, public, h2.Addr.String()},
		{"the world", l.Internet, public, "192.0.2.254"},
		{"the host", h1.NS, public, h1.Addr.String()},
		{"the host by loopback", h1.NS, local, gateway},
		{"the host by loopback alone", h1.NS, netip.AddrPortFrom(loopback, 8081), gateway},
		{"an endpoint on another host", far.NS, public, h2.Addr.String()},
		{"an endpoint of the network", near.NS, public, gateway},
		{"an endpoint of another network", other.NS, public, gateway},
		{"the endpoint itself", web.NS, public, gateway},
		{"an endpoint of a closed network", closed.NS, public, gateway},
		{"another host, to an endpoint that has no way back", h2.NS, netip.AddrPortFrom(h1.Addr, 8086), gateway},
		{"another host, to a closed network", h2.NS, netip.AddrPortFrom(h1.Addr, 8085), h2.Addr.String()},
		{"the host by loopback, to a closed network", h1.NS, netip.AddrPortFrom(loopback, 8085), shut.Gateway().String()},
	} {
		for _, network := range []string{"tcp", "udp"} {
			seen, err := row.by.Seen(network, row.to)
			if err != nil || seen != row.seen {
				t.Errorf("%s over %s: seen as %q, %v, want %s", row.name, network, seen, err, row.seen)
			}
		}
	}
	if seen, err := h1.NS.Seen("tcp", netip.AddrPortFrom(netip.IPv6Loopback(), 8080)); err != nil || seen != gateway {
		t.Errorf("the host by ::1: seen as %q, %v, want %s", seen, err, gateway)
	}
	assertNotReached(t, h1, h2, near, other, a)
}

// assertNotReached tries the port of h1's 127.0.0.1, and the endpoint's own address
// from another host that has a route to it.
func assertNotReached(t *testing.T, h1, h2 *agenttest.Host, near, other *agenttest.Sandbox, a agenttest.Attachment) {
	for name, by := range map[string]agenttest.Netns{"another host": h2.NS, "an endpoint of the network": near.NS, "an endpoint of another network": other.NS} {
		if seen, err := by.Seen("tcp", netip.AddrPortFrom(h1.Addr, 8081)); err == nil {
			t.Errorf("%s reached a port of 127.0.0.1, seen as %s", name, seen)
		}
	}
	h2.NS.Must(t, "ip", "route", "add", "10.0.0.0/8", "via", h1.Addr.String())
	if seen, err := h2.NS.Seen("udp", netip.AddrPortFrom(a.Addr(), 80)); err == nil {
		t.Errorf("another host reached the endpoint by its own address, seen as %s", seen)
	}
}

func TestAPortHasOneHolderWhoIsNamed(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.CreateNetwork("blue")
	h.CreateNetwork("inward", "--internal")
	web, a := h.Endpoint("blue", "web", "-p", "8080:80", "-p", "8090-8091:81")
	program := agenttest.Sandbox{NS: h.NS, Host: h}
	program.Background("busybox", "httpd", "-f", "-p", "127.0.0.1:9000")
	agenttest.Eventually(t, 10*time.Second, "the program listens", func() error {
		if out := h.NS.Must(t, "ss", "-lnt"); !strings.Contains(out, ":9000") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	free := h.Sandbox("free")
	before := h.Entries(t)
	for _, row := range []struct{ port, message string }{
		{"8080:80", "port 8080/tcp is taken by endpoint web (" + a.ID + ")"},
		{"127.0.0.1:8080:80", "port 8080/tcp of 127.0.0.1 is taken by endpoint web (" + a.ID + ")"},
		{"9000:80", "port 9000/tcp is taken by busybox (pid "},
	} {
		_, r := free.TryAttach("blue", "second", "-p", "8099:80", "-p", row.port)
		agenttest.WantError(t, r, 5)
		if !strings.Contains(r.Stderr, row.message) {
			t.Errorf("no word of %q: %s", row.message, r)
		}
	}
	_, r := free.TryAttach("inward", "second", "-p", "8080:80")
	agenttest.WantError(t, r, 5)
	if diff := agenttest.Diff(before, h.Entries(t)); diff != "" {
		t.Errorf("the failed commands left:\n%s", diff)
	}
	listen := func() error {
		listener, err := h.NS.ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), 8080))
		if err == nil {
			listener.Close()
		}
		return err
	}
	if err := listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another program takes a published port: %v, want %v", err, syscall.EADDRINUSE)
	}

	// The second of a range, and what another protocol leaves.
	_, next := h.Endpoint("blue", "next", "-p", "8090-8091:81", "-p", "8080:80/udp", "-p", "7")
	if len(next.Ports) != 3 || !strings.Contains(strings.Join(next.Ports, " "), "0.0.0.0:8091->81/tcp") {
		t.Errorf("ports %q, want 8091 among three", next.Ports)
	}
	// Once detached it is free, for endpoints and for programs.
	web.Detach("blue", "web")
	if err := listen(); err != nil {
		t.Errorf("the port is not free after detach: %v", err)
	}
	if third := free.Attach("blue", "third", "-p", "8080:80"); len(third.Ports) != 1 {
		t.Errorf("ports %q", third.Ports)
	}
}

func TestPublishedConnectionOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue")
	web, _ := h.Endpoint("blue", "web", "-p", "8080:80", "-p", "8081:80")
	web.NS.Mirror(t)
	conn, err := l.Host(2).NS.DialTCP(netip.AddrPortFrom(h.Addr, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(when string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write([]byte("still")); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	ask("before")
	before := h.Entries(t)
	h.Kill()
	ask("without an agent")
	thief, err := h.NS.ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), 8081))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	h.Start()
	ask("with a new agent")
	if diff := agenttest.Diff(before, h.Entries(t)); diff != "" {
		t.Errorf("the kernel is not what it was:\n%s", diff)
	}
	for _, port := range []uint16{8080, 8081} {
		if seen, err := l.Host(2).NS.Seen("tcp", netip.AddrPortFrom(h.Addr, port)); err != nil || seen != l.Host(2).Addr.String() {
			t.Errorf("port %d: seen as %q, %v", port, seen, err)
		}
	}
	if r := h.Ctl("status"); !strings.Contains(r.Stdout, "port 8081/tcp is taken by endpoints.test (pid") {
		t.Errorf("status does not name who took the port: %s", r)
	}
	thief.Close()
	agenttest.Eventually(t, 20*time.Second, "the port is ours again", func() error {
		if r := h.Ctl("status"); strings.Contains(r.Stdout, "8081") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// A client that never stops sending UDP to a published port reaches the endpoint
// that took the place of the one it began with.
func TestReplacedEndpointGetsTheNextDatagram(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue")
	old, _ := h.Endpoint("blue", "web", "-p", "5353:80/udp")
	old.NS.Mirror(t)
	conn, err := l.Host(2).NS.DialUDP(netip.AddrPortFrom(h.Addr, 5353))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answered := func() error {
		_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = conn.Write([]byte("hello")) // refused: the answer to an earlier one
		_, err := conn.Read(make([]byte, 64))
		return err
	}
	if err := answered(); err != nil {
		t.Fatal(err)
	}
	old.Detach("blue", "web")
	for range 3 { // the flow is kept alive while nobody has the port
		if answered() == nil {
			t.Error("answered without an endpoint")
		}
	}
	fresh := h.Sandbox("fresh")
	fresh.Attach("blue", "web", "-p", "5353:80/udp")
	fresh.NS.Mirror(t)
	if err := answered(); err != nil {
		t.Errorf("the first datagram to the new endpoint: %v", err)
	}
}

func TestPublishedPortsPassDockersFilter(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	for _, rule := range []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN"} {
		h.NS.Must(t, append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
	h.CreateNetwork("blue")
	web, _ := h.Endpoint("blue", "web", "-p", "8080:80")
	web.NS.Mirror(t)
	reached := func() error {
		_, err := l.Host(2).NS.Seen("tcp", netip.AddrPortFrom(h.Addr, 8080))
		return err
	}
	agenttest.Eventually(t, 2*time.Second, "another host reaches it", reached)
	if err := web.PingOnce(agenttest.InternetAddr); err != nil {
		t.Errorf("no way out: %v", err)
	}
	h.NS.Must(t, "iptables", "-F", "DOCKER-USER")
	agenttest.Eventually(t, 2*time.Second, "and after a flush", func() error {
		if out := h.NS.Must(t, "iptables", "-S", "DOCKER-USER"); strings.Count(out, "weft") != 2 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if err := reached(); err != nil {
		t.Error(err)
	}
	h.MustCtl("leave", "--purge")
	if out := h.NS.Must(t, "iptables", "-S"); strings.Contains(out, "weft") {
		t.Errorf("left behind: %s", out)
	}
}
