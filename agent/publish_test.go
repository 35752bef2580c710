package agent

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/discovery"
)

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
	s := one.agent.member().endpoints
	before, _ := s.Journal.Get(id)
	wanted, err := hostport.Parse([]string{"80", "53/udp"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Publish(t.Context(), id, wanted)
	after, _ := s.Journal.Get(id)
	ports := after.Ports
	if err != nil || len(ports) != 2 || ports[0] != before.Ports[0] && ports[1] != before.Ports[0] {
		t.Fatalf("published %v, %v, want %v among two", ports, err, before.Ports)
	}
	text := one.kernel.String()
	for _, p := range ports {
		if want := fmt.Sprintf("pub4 { %s . %d : %s . %d }", map[uint8]string{6: "tcp", 17: "udp"}[p.Proto], p.HostPort, p.Addr, p.Port); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	e, err := one.Endpoint(t.Context(), "web")
	if err != nil || len(e.Ports) != 2 {
		t.Errorf("endpoint %+v, %v", e, err)
	}
	for range 2 { // a retried call succeeds
		if err := s.Unpublish(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if text := one.kernel.String(); strings.Contains(text, "pub4") {
		t.Errorf("still published:\n%s", text)
	}
	if held, _ := s.Ports.Problems(); held != 0 {
		t.Errorf("%d ports are still held", held)
	}
	if err := s.Unpublish(t.Context(), discovery.EndpointID{2}); err != nil {
		t.Errorf("unpublish of an endpoint that is gone: %v", err)
	}
}
