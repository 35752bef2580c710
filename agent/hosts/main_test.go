package hosts_test

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) {
	if arguments := os.Getenv(crowdVariable); arguments != "" {
		if err := beCrowd(arguments); err != nil {
			panic(err)
		}
		return
	}
	agenttest.Main(m)
}

// observers puts one endpoint on every host of the lab, named by its host
// (on-h1, on-h2, …), and returns a view from each, once they reach each other.
func observers(t testing.TB, l *agenttest.Lab, network string) []observer {
	t.Helper()
	var all []observer
	for _, h := range l.Hosts {
		s, a := h.Endpoint(network, "on-"+h.Name)
		all = append(all, observer{Sandbox: s, addr: a.Addr(), dns: s.Resolver(a.Gateway)})
	}
	for _, o := range all {
		for _, other := range all {
			agenttest.Eventually(t, 5*time.Second, o.Host.Name+" reaches "+other.Host.Name, func() error { return o.PingOnce(other.addr) })
		}
	}
	return all
}

// observer is an endpoint that looks at the others of its network.
type observer struct {
	*agenttest.Sandbox
	addr netip.Addr
	dns  *agenttest.Resolver
}

// serveHTTP answers every request inside the sandbox with text.
func serveHTTP(t *testing.T, s *agenttest.Sandbox, text string) {
	t.Helper()
	l, err := s.NS.ListenTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), 80))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, text)
}

func serve(t *testing.T, l net.Listener, text string) {
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}
