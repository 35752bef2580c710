package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

var (
	portsOf = netip.MustParseAddr("10.64.0.5")
	web     = discovery.EndpointID{1}
	other   = discovery.EndpointID{2}
)

func specs(t *testing.T, texts ...string) []portSpec {
	t.Helper()
	all, err := parsePorts(texts)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func heldPorts(t *testing.T) *hostPorts {
	h := newHostPorts(t.Context())
	t.Cleanup(h.close)
	return h
}

func TestReservedPortsAreHeld(t *testing.T) {
	h := heldPorts(t)
	ports, err := h.reserve(web, portsOf, specs(t, "80", "80/udp", "127.0.0.1::81"), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		if p.HostPort == 0 {
			t.Errorf("%s: no port was chosen", p)
		}
		network := protocols[p.Proto] + "4"
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.HostPort).String()
		taken := func() error {
			if p.Proto == 17 {
				c, err := net.ListenPacket(network, at)
				if err == nil {
					c.Close()
				}
				return err
			}
			l, err := net.Listen(network, at)
			if err == nil {
				l.Close()
			}
			return err
		}
		if taken() == nil {
			t.Errorf("%s: another program took it", p)
		}
		h.release([]overlay.Publish{p})
		if err := taken(); err != nil {
			t.Errorf("%s: not free once released: %v", p, err)
		}
	}
}

func TestReserveAllOrNothing(t *testing.T) {
	h := heldPorts(t)
	first, second := freePort(t), freePort(t)
	have, err := h.reserve(web, portsOf, specs(t, fmt.Sprintf("%d:80", first)), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.reserve(other, portsOf, specs(t, fmt.Sprintf("%d:80", second), fmt.Sprintf("127.0.0.1:%d:80", first)), nil, false)
	if want := "is taken by endpoint " + web.String(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	// What the first attempt took is free again, and what an endpoint has it keeps.
	ports, err := h.reserve(web, portsOf, specs(t, fmt.Sprintf("%d:80", first), fmt.Sprintf("%d:81", second)), have, false)
	if err != nil || len(ports) != 2 {
		t.Errorf("got %v, %v, want two ports", ports, err)
	}
}

func TestReserveNamesTheProgram(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	_, err = heldPorts(t).reserve(web, portsOf, specs(t, fmt.Sprintf("%d:80", port)), nil, false)
	if want := fmt.Sprintf("port %d/tcp is taken by agent.test (pid %d)", port, os.Getpid()); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestPortsTakenWhileNoAgentRan(t *testing.T) {
	thief, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	lost := overlay.Publish{Proto: 6, HostPort: thief.Addr().(*net.TCPAddr).AddrPort().Port(), Addr: portsOf, Port: 80}
	kept := overlay.Publish{Proto: 6, HostPort: freePort(t), Addr: portsOf, Port: 80}
	h := heldPorts(t)
	h.reclaim([]Local{{Endpoint: discovery.Endpoint{ID: web}, Ports: []overlay.Publish{lost, kept}}})
	if held, problems := h.problems(); held != 1 || len(problems) != 1 || !strings.Contains(problems[0], "agent.test") {
		t.Errorf("held %d, problems %q", held, problems)
	}
	thief.Close()
	h.retry()
	if held, problems := h.problems(); held != 2 || len(problems) != 0 {
		t.Errorf("once it is free: held %d, problems %q", held, problems)
	}
	h.release([]overlay.Publish{lost, kept})
	if held, _ := h.problems(); held != 0 {
		t.Errorf("released, and still holds %d", held)
	}
}

// The runtimes publish after they attached, once for all ports, and take back
// what an endpoint has.
func TestFlowPublish(t *testing.T) {
	one, _ := pair(t)
	a, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Ports: []string{"80"}})
	if err != nil || len(a.Ports) != 1 {
		t.Fatalf("%v, ports %q", err, a.Ports)
	}
	again, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Ports: []string{"80"}})
	if err != nil || again.ID != a.ID {
		t.Errorf("attached again: %+v, %v", again, err)
	}
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Ports: []string{"81"}}); err == nil {
		t.Error("attached again with another port: no error")
	}
	var id discovery.EndpointID
	if err := id.UnmarshalText([]byte(a.ID)); err != nil {
		t.Fatal(err)
	}
	s := one.agent.member()
	before, _ := s.journal.get(id)
	ports, err := s.publish(t.Context(), id, specs(t, "80", "53/udp"))
	if err != nil || len(ports) != 2 || ports[0] != before.Ports[0] && ports[1] != before.Ports[0] {
		t.Fatalf("published %v, %v, want %v among two", ports, err, before.Ports)
	}
	text := one.kernel.String()
	for _, p := range ports {
		if want := fmt.Sprintf("pub4 { %s . %d : %s . %d }", protocols[p.Proto], p.HostPort, p.Addr, p.Port); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	e, err := one.Endpoint(t.Context(), "web")
	if err != nil || len(e.Ports) != 2 {
		t.Errorf("endpoint %+v, %v", e, err)
	}
	for range 2 { // a retried call succeeds
		if err := s.unpublish(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if text := one.kernel.String(); strings.Contains(text, "pub4") {
		t.Errorf("still published:\n%s", text)
	}
	if held, _ := s.ports.problems(); held != 0 {
		t.Errorf("%d ports are still held", held)
	}
	if err := s.unpublish(t.Context(), other); err != nil {
		t.Errorf("unpublish of an endpoint that is gone: %v", err)
	}
}
