package hostport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

var (
	portsOf = netip.MustParseAddr("10.64.0.5")
	web     = discovery.EndpointID{1}
	other   = discovery.EndpointID{2}
)

func specs(t *testing.T, texts ...string) []Spec {
	t.Helper()
	all, err := Parse(texts)
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

func heldPorts(t *testing.T) *Table {
	h := New(t.Context())
	t.Cleanup(h.Close)
	return h
}

func TestReservedPortsAreHeld(t *testing.T) {
	h := heldPorts(t)
	ports, err := h.Reserve(Request{Owner: web, To: portsOf, Want: specs(t, "80", "80/udp", "127.0.0.1::81")})
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
		h.Release(web, []overlay.Publish{p})
		if err := taken(); err != nil {
			t.Errorf("%s: not free once released: %v", p, err)
		}
	}
}

func TestReserveAllOrNothing(t *testing.T) {
	h := heldPorts(t)
	first, second := freePort(t), freePort(t)
	have, err := h.Reserve(Request{Owner: web, To: portsOf, Want: specs(t, fmt.Sprintf("%d:80", first))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Reserve(Request{Owner: other, To: portsOf, Want: specs(t, fmt.Sprintf("%d:80", second), fmt.Sprintf("127.0.0.1:%d:80", first))})
	if want := "is taken by endpoint " + web.String(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	// What the first attempt took is free again, and what an endpoint has it keeps.
	ports, err := h.Reserve(Request{Owner: web, To: portsOf, Want: specs(t, fmt.Sprintf("%d:80", first), fmt.Sprintf("%d:81", second)), Have: have})
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
	_, err = heldPorts(t).Reserve(Request{Owner: web, To: portsOf, Want: specs(t, fmt.Sprintf("%d:80", port))})
	if want := fmt.Sprintf("port %d/tcp is taken by hostport.test (pid %d)", port, os.Getpid()); err == nil || err.Error() != want {
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
	h.Reclaim([]Published{{Owner: web, Ports: []overlay.Publish{lost, kept}}})
	if held, problems := h.Problems(); held != 1 || len(problems) != 1 || !strings.Contains(problems[0], "hostport.test") {
		t.Errorf("held %d, problems %q", held, problems)
	}
	thief.Close()
	h.Retry()
	if held, problems := h.Problems(); held != 2 || len(problems) != 0 {
		t.Errorf("once it is free: held %d, problems %q", held, problems)
	}
	h.Release(web, []overlay.Publish{lost, kept})
	if held, _ := h.Problems(); held != 0 {
		t.Errorf("released, and still holds %d", held)
	}
}

// A port whose socket podman is about to open, or another program had for a while,
// is an endpoint's all the same.
func TestPortWithoutASocketIsTaken(t *testing.T) {
	port := freePort(t)
	want := specs(t, fmt.Sprintf("%d:80", port))
	for name, has := range map[string]func(*testing.T, *Table){
		"lent": func(t *testing.T, h *Table) {
			if _, err := h.Reserve(Request{Owner: web, To: portsOf, Want: want, OwnSockets: true}); err != nil {
				t.Fatal(err)
			}
		},
		"lost": func(t *testing.T, h *Table) {
			thief, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			h.Reclaim([]Published{{Owner: web, Ports: []overlay.Publish{{Proto: 6, HostPort: port, Addr: portsOf, Port: 80}}}})
			thief.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := heldPorts(t)
			has(t, h)
			var taken *TakenError
			if _, err := h.Reserve(Request{Owner: other, To: portsOf, Want: want}); !errors.As(err, &taken) || taken.Endpoint != web {
				t.Errorf("for another: %v, want it taken by %s", err, web)
			}
			h.Release(other, []overlay.Publish{{Proto: 6, HostPort: port}})
			h.Retry()
			if held, lost := h.Problems(); held != 1 || len(lost) > 0 {
				t.Errorf("held %d, lost %q, want the port to stay with its owner", held, lost)
			}
		})
	}
}
