package endpoints_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/weft-net/weft/agent/agenttest"
)

// askHere is where an agent answers every container of its host (--dns-address).
var askHere = netip.MustParseAddr("169.254.53.53")

// A container's engine asks the host's resolver from the container's namespace.
// It gets our names from there, over UDP and TCP, and all others too.
func TestContainersGetNamesFromTheHostsResolver(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2)
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("inner", "--internal")
	_, web := l.Host(2).Endpoint("blue", "web")
	_, vault := l.Host(2).Endpoint("inner", "vault")
	client, _ := l.Host(1).Endpoint("blue", "client")
	server := client.Resolver(agenttest.NamedServer)
	for _, name := range []string{"web.", "web.blue.", agenttest.FQDN("web", "blue")} {
		agenttest.Eventually(t, 2*time.Second, "redirected: "+name, server.Wants(name, web.Addr()))
	}
	agenttest.Eventually(t, 5*time.Second, "forwarded", server.Wants(agenttest.Outside, agenttest.ByNamed))
	// The engine's fallback, where a host has no resolver of its own.
	agenttest.Eventually(t, 2*time.Second, "8.8.8.8", client.Resolver(netip.MustParseAddr("8.8.8.8")).Wants("web.", web.Addr()))
	// The host's search domain is taken off, for a program that appends it first:
	// it goes on to the name alone. Other names in that domain are the world's.
	agenttest.Eventually(t, 5*time.Second, "in the search domain", server.Wants("mail.corp.test.", agenttest.ByNamed))
	if r, err := server.Ask("web.corp.test.", time.Second); err != nil || r.Rcode != "NXDOMAIN" {
		t.Errorf("a name with the host's search domain: %+v, %v", r, err)
	}
	if got := dig(t, client, agenttest.NamedServer, "+tcp", agenttest.FQDN("web", "blue")); got != web.Addr().String() {
		t.Errorf("over TCP: %s", got)
	}
	// Another server is not answered for, and an endpoint's own DNS server neither.
	if r, err := client.Resolver(agenttest.OtherServer).Ask(agenttest.FQDN("web", "blue"), 5*time.Second); err != nil || r.Rcode != "NXDOMAIN" {
		t.Errorf("another server was asked, and it was not the one that answered: %+v, %v", r, err)
	}
	agenttest.Eventually(t, 5*time.Second, "the other server", client.Resolver(agenttest.OtherServer).Wants(agenttest.Outside, agenttest.ByOther))

	inside := insideInternal(t, l.Host(1), "inner")
	inner := inside.Resolver(agenttest.NamedServer)
	agenttest.Eventually(t, 2*time.Second, "in an internal network", inner.Wants("vault.", vault.Addr()))
	if r, err := inner.Ask(agenttest.Outside, 5*time.Second); err != nil || r.Rcode != "REFUSED" {
		t.Errorf("a name from elsewhere in an internal network: %+v, %v", r, err)
	}
}

// insideInternal is a sandbox on an internal network with a default route to the
// gateway, as Docker makes it.
func insideInternal(t *testing.T, h *agenttest.Host, network string) *agenttest.Sandbox {
	t.Helper()
	s, _ := h.Endpoint(network, "inside")
	s.NS.Must(t, "ip", "route", "add", "default", "via", h.Network(network).Gateway().String())
	return s
}

// dig asks a server and returns the values, one a line.
func dig(t *testing.T, s *agenttest.Sandbox, server netip.Addr, args ...string) string {
	t.Helper()
	return strings.TrimSpace(s.NS.Must(t, append([]string{"dig", "+short", "+tries=1", "+time=5", "@" + server.String()}, args...)...))
}

// An answer that is too long for a datagram is asked for again over TCP, at the
// address that was asked before.
func TestLongAnswersOfTheHostsResolver(t *testing.T) {
	t.Parallel()
	const endpoints = 200
	l := agenttest.AskingCluster(t, 1)
	l.Host(1).CreateNetwork("blue", "-o", "dns_answers=all")
	many, client := l.Host(1).Sandbox("many"), l.Host(1).Sandbox("client")
	for i := range endpoints {
		many.Attach("blue", "many", "--ifname", fmt.Sprintf("eth%d", i), "--no-default-route")
	}
	client.Attach("blue", "client")
	for _, flags := range [][]string{{"+noedns"}, {"+bufsize=4096"}} {
		if got := strings.Count(dig(t, client, agenttest.NamedServer, append(flags, agenttest.FQDN("many", "blue"))...), "\n") + 1; got != endpoints {
			t.Errorf("%v: %d addresses, want %d", flags, got, endpoints)
		}
	}
}

// A resolver asks for both families at once, from one socket. Address
// translation in front of a DNS server is known to lose one of the two.
func TestBothFamiliesAtOnce(t *testing.T) {
	t.Parallel()
	const pairs = 500
	l := agenttest.AskingCluster(t, 1)
	l.Host(1).CreateNetwork("blue")
	l.Host(1).Endpoint("blue", "web")
	client, _ := l.Host(1).Endpoint("blue", "client")
	name := dnsmessage.MustNewName(agenttest.FQDN("web", "blue"))
	question := func(id uint16, qtype dnsmessage.Type) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: name, Type: qtype, Class: dnsmessage.ClassINET}}}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lost := 0
	for i := range uint16(pairs) {
		conn, err := client.NS.DialUDP(netip.AddrPortFrom(agenttest.NamedServer, 53)) // a flow of its own
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for _, q := range [][]byte{question(2*i, dnsmessage.TypeA), question(2*i+1, dnsmessage.TypeAAAA)} {
			both.Go(func() { _, _ = conn.Write(q) })
		}
		both.Wait()
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 512)
		for range 2 {
			if _, err := conn.Read(buf); err != nil {
				lost++
				break
			}
		}
		conn.Close()
	}
	if lost > 0 {
		t.Errorf("%d of %d pairs lost an answer", lost, pairs)
	}
}

func TestInterceptModes(t *testing.T) {
	t.Parallel()
	for mode, hijacked := range map[string]map[netip.Addr]bool{
		"all": {agenttest.NamedServer: true, agenttest.OtherServer: true},
		"off": {agenttest.NamedServer: false, agenttest.OtherServer: false},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := agenttest.AskingCluster(t, 1, "--dns-intercept", mode)
			l.Host(1).CreateNetwork("blue")
			_, web := l.Host(1).Endpoint("blue", "web")
			client, own := l.Host(1).Endpoint("blue", "client")
			name := agenttest.FQDN("web", "blue")
			agenttest.Eventually(t, 2*time.Second, "the gateway", client.Resolver(own.Gateway).Wants(name, web.Addr()))
			for server, here := range hijacked {
				want := client.Resolver(server).Wants(name)
				if here {
					want = client.Resolver(server).Wants(name, web.Addr())
				}
				agenttest.Eventually(t, 5*time.Second, server.String(), want)
			}
		})
	}
}

// With host_access=full the gateway port has this host's own address too, and
// the kernel redirects to whichever comes first.
func TestRedirectionToAHostsOwnAddress(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 1)
	n := l.Host(1).CreateNetwork("blue", "-o", "host_access=full")
	_, web := l.Host(1).Endpoint("blue", "web")
	client, _ := l.Host(1).Endpoint("blue", "client")
	dev := fmt.Sprintf("g%06x", n.VNI)
	agenttest.Eventually(t, 10*time.Second, "a second address on "+dev, func() error {
		out := l.Host(1).NS.Must(t, "ip", "-4", "-o", "addr", "show", "dev", dev)
		if strings.Count(out, "inet ") != 2 {
			return errors.New(out)
		}
		return nil
	})
	agenttest.Eventually(t, 5*time.Second, "redirected", client.Resolver(agenttest.NamedServer).Wants("web.", web.Addr()))
}

// 169.254.53.53 answers everybody on this host as who he is, and nobody else.
func TestAddressForAllContainers(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 2, "--dns-address", "on")
	h := l.Host(1)
	h.CreateNetwork("blue")
	h.CreateNetwork("green", "--internal")
	_, web := l.Host(2).Endpoint("blue", "web")
	_, cache := l.Host(2).Endpoint("green", "cache")
	both := h.Sandbox("both")
	both.Attach("blue", "both")
	both.Attach("green", "both", "--ifname", "eth1", "--no-default-route")
	server := both.Resolver(askHere)
	agenttest.Eventually(t, 5*time.Second, "of one network", server.Wants("web.", web.Addr()))
	agenttest.Eventually(t, 5*time.Second, "of the other", server.Wants("cache.", cache.Addr()))
	agenttest.Eventually(t, 5*time.Second, "of the world", server.Wants(agenttest.Outside, agenttest.ByNamed))
	if got := dig(t, both, askHere, "+tcp", "web.blue"); got != web.Addr().String() {
		t.Errorf("over TCP: %s", got)
	}
	// An engine's resolver would turn to its next server after REFUSED.
	inside := insideInternal(t, h, "green")
	inner := inside.Resolver(askHere)
	agenttest.Eventually(t, 5*time.Second, "in an internal network", inner.Wants("cache.", cache.Addr()))
	if r, err := inner.Ask(agenttest.Outside, 5*time.Second); err != nil || r.Rcode != "NXDOMAIN" {
		t.Errorf("a name from elsewhere in an internal network: %+v, %v", r, err)
	}

	other := behindABridge(t, h, "docker0")
	agenttest.Eventually(t, 10*time.Second, "from another bridge", other.Resolver(askHere).Wants(agenttest.Outside, agenttest.ByNamed))
	full := other.NS.Must(t, "dig", "+tries=1", "@"+askHere.String(), agenttest.FQDN("web", "blue"))
	if !strings.Contains(full, "status: NXDOMAIN") || !strings.Contains(full, " aa ") {
		t.Errorf("one of our names, from another bridge:\n%s", full)
	}

	if got := strings.TrimSpace(h.NS.Must(t, "dig", "+short", "+tries=1", "@"+askHere.String(), agenttest.FQDN("web", "blue"))); got != web.Addr().String() {
		t.Errorf("from the host: %s", got)
	}
	l.Internet.Must(t, "ip", "route", "add", askHere.String(), "via", h.Addr.String())
	if r := l.Internet.Run("dig", "+short", "+tries=1", "+time=1", "@"+askHere.String(), agenttest.Outside); r.Code == 0 {
		t.Errorf("from another machine: %s", r)
	}

	h.MustCtl("leave", "--purge")
	if out := h.NS.Must(t, "ip", "-o", "addr", "show", "dev", "lo"); strings.Contains(out, askHere.String()) {
		t.Errorf("after leave: %s", out)
	}
}

// The address is there while it is wanted: an agent that is started without it
// knows the one of an earlier start as its own.
func TestAddressForAllContainersIsTakenAway(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 1, "--dns-address", "on")
	h := l.Host(1)
	h.CreateNetwork("blue")
	has := func(want bool) func() error {
		return func() error {
			out := h.NS.Must(t, "ip", "-o", "addr", "show", "dev", "lo")
			if strings.Contains(out, askHere.String()) != want {
				return errors.New(out)
			}
			return nil
		}
	}
	agenttest.Eventually(t, 5*time.Second, "the address", has(true))
	h.NS.Must(t, "ip", "addr", "del", askHere.String()+"/32", "dev", "lo")
	agenttest.Eventually(t, 10*time.Second, "the address again", has(true))
	h.Kill()
	h.More = []string{"--dns-address", "off"}
	h.Start()
	agenttest.Eventually(t, 20*time.Second, "no address", has(false))
}

// behindABridge is a namespace on a network of another engine on the host.
func behindABridge(t *testing.T, h *agenttest.Host, bridge string) *agenttest.Sandbox {
	t.Helper()
	s := h.Sandbox("other")
	h.NS.Must(t, "ip", "link", "add", bridge, "type", "bridge")
	h.NS.Must(t, "ip", "addr", "add", "172.17.0.1/16", "dev", bridge)
	h.NS.Must(t, "ip", "link", "set", bridge, "up")
	h.NS.Must(t, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", string(s.NS))
	h.NS.Must(t, "ip", "link", "set", "veth0", "master", bridge, "up")
	s.NS.Must(t, "ip", "addr", "add", "172.17.0.2/16", "dev", "eth0")
	s.NS.Must(t, "ip", "link", "set", "eth0", "up")
	s.NS.Must(t, "ip", "route", "add", "default", "via", "172.17.0.1")
	return s
}

// What the host's file says counts as soon as it is written: its servers, of which
// status says that none answers, and its domains, which every namespace searches.
func TestTheHostsResolversAreFollowed(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 1)
	h := l.Host(1)
	conf := h.More[len(h.More)-1]
	write := func(text string) {
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.CreateNetwork("blue")
	client, a := h.Endpoint("blue", "client")
	searches := func(want string) func() error {
		return func() error {
			if r := client.Exec("cat", "/etc/resolv.conf"); !strings.Contains(r.Stdout, "search blue.weft.internal weft.internal"+want+"\n") {
				return fmt.Errorf("%s", r)
			}
			return nil
		}
	}
	status := func(code int, want string) func() error {
		return func() error {
			if r := h.Ctl("status"); r.Code != code || !strings.Contains(r.Stdout, want) {
				return fmt.Errorf("want exit %d with %q: %s", code, want, r)
			}
			return nil
		}
	}
	agenttest.Eventually(t, 5*time.Second, "the search list", searches(" corp.test"))
	agenttest.Eventually(t, 15*time.Second, "a resolver that answers", status(0, "answering"))
	write("domain other.test\nnameserver 192.0.2.77\n")
	agenttest.Eventually(t, 5*time.Second, "a domain line", searches(" other.test"))
	agenttest.Eventually(t, 30*time.Second, "a resolver that is silent", status(1, "no resolver answers for other names: 192.0.2.77:53 ("))
	write("search a.test b.test\n")
	agenttest.Eventually(t, 10*time.Second, "no resolver", status(1, conf+" names none"))
	write("search a.test b.test\nnameserver 192.0.2.77\nnameserver " + agenttest.NamedServer.String() + "\n")
	agenttest.Eventually(t, 5*time.Second, "another list", searches(" a.test b.test"))
	agenttest.Eventually(t, 30*time.Second, "one of two answers", status(0, "answering"))
	agenttest.Eventually(t, 5*time.Second, "forwarded", client.Resolver(a.Gateway).Wants(agenttest.Outside, agenttest.ByNamed))
}
