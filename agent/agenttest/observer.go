package agenttest

import (
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// Observer is an endpoint that looks at the others of its network.
type Observer struct {
	*Sandbox
	Addr netip.Addr
	DNS  *Resolver // asks the network's gateway
}

// Observers puts one endpoint on every host of the lab, named by its host
// (on-h1, on-h2, …), and returns a view from each, once they reach each other.
func (l *Lab) Observers(network string) []Observer {
	l.t.Helper()
	var all []Observer
	for _, h := range l.Hosts {
		s, a := h.Endpoint(network, "on-"+h.Name)
		all = append(all, Observer{Sandbox: s, Addr: a.Addr(), DNS: s.Resolver(a.Gateway)})
	}
	for _, o := range all {
		for _, other := range all {
			Eventually(l.t, 5*time.Second, o.Host.Name+" reaches "+other.Host.Name, func() error { return o.PingOnce(other.Addr) })
		}
	}
	return all
}

// ServeHTTP answers every request to port 80 of an address of the namespace with
// the text, until the test ends.
func (n Netns) ServeHTTP(t testing.TB, at netip.Addr, text string) {
	t.Helper()
	l, err := n.ListenTCP(netip.AddrPortFrom(at, 80))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }),
		ReadHeaderTimeout: 5 * time.Second,
	}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}
