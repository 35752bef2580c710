package endpoints_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// An endpoint's name answers on its own host when attach returns, and on every
// other host within 200 ms in 99 of 100 tries; the first packet to it is not
// lost; and after detach name and address are gone everywhere within a second.
func TestEndpointIsSeenEverywhereAtOnceAndForgottenEverywhere(t *testing.T) {
	t.Parallel()
	const tries, bound = 100, 200 * time.Millisecond
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	var movers []*agenttest.Sandbox
	for _, h := range l.Hosts {
		movers = append(movers, h.Sandbox("mover"))
	}
	web := agenttest.FQDN("web", "blue")

	var took []time.Duration
	for i := range tries {
		home := i % len(l.Hosts)
		a := movers[home].Attach("blue", "web")
		returned := time.Now()
		if err := from[home].DNS.Wants(web, a.Addr())(); err != nil {
			t.Errorf("try %d: on its own host, when attach returned: %v", i, err)
		}
		for j, o := range from {
			agenttest.Eventually(t, 5*time.Second, fmt.Sprintf("try %d: seen on %s", i, l.Hosts[j].Name), o.DNS.Wants(web, a.Addr()))
			if j != home {
				took = append(took, time.Since(returned))
			}
		}
		for j, o := range from {
			if err := o.PingOnce(a.Addr()); err != nil {
				t.Errorf("try %d: first ping from %s: %v", i, l.Hosts[j].Name, err)
			}
		}
		movers[home].Detach("blue", "web")
		assertForgotten(t, l, from, a.Addr(), web)
	}
	slices.Sort(took)
	late := len(took) - 1
	for late >= 0 && took[late] > bound {
		late--
	}
	over := len(took) - 1 - late
	t.Logf("attach to answer on another host: median %v, 99 of 100 within %v, longest %v",
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	if over > len(took)/100 {
		t.Errorf("%d of %d took longer than %v", over, len(took), bound)
	}
}

// assertForgotten checks that nothing tells of an endpoint a second after its
// detach: not the names, not the tables of the fabrics.
func assertForgotten(t *testing.T, l *agenttest.Lab, from []agenttest.Observer, addr netip.Addr, name string) {
	t.Helper()
	until := time.Now().Add(time.Second)
	for j, o := range from {
		agenttest.Eventually(t, time.Until(until), l.Hosts[j].Name+" forgets the name", o.DNS.Wants(name))
	}
	for _, h := range l.Hosts {
		agenttest.Eventually(t, time.Until(until), h.Name+" forgets the address", func() error {
			if h.Holds(t, addr) {
				return fmt.Errorf("its fabric has an entry for %v", addr)
			}
			return nil
		})
	}
}

// When join returns, the members see each other: what is attached a moment
// later on any host is seen on every other as fast as ever.
func TestMembersSeeEachOtherWhenJoinReturns(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{})
	for _, h := range l.Hosts {
		h.Start()
	}
	first := l.Host(1)
	first.Init()
	first.MustCtl("network", "create", "blue")
	for _, h := range l.Hosts[1:] {
		h.Join(first)
	}
	type end struct {
		*agenttest.Sandbox
		agenttest.Attachment
	}
	var ends []end
	for _, h := range l.Hosts {
		for _, other := range l.Hosts {
			if m := h.Members()[other.Name]; m.Status != "alive" || m.Address != other.Addr.String() {
				t.Errorf("%s sees %s as %+v, want it alive at %v", h.Name, other.Name, m, other.Addr)
			}
		}
		s, a := h.Endpoint("blue", "on-"+h.Name)
		ends = append(ends, end{s, a})
	}
	attached := time.Now()
	for _, o := range ends {
		dns := o.Resolver(o.Gateway)
		for _, other := range ends {
			name := agenttest.FQDN(other.Name, "blue")
			agenttest.Eventually(t, 200*time.Millisecond-time.Since(attached), o.Host.Name+": "+other.Name, dns.Wants(name, other.Addr()))
			if err := o.PingOnce(other.Addr()); err != nil {
				t.Errorf("first ping from %s to %s: %v", o.Host.Name, other.Host.Name, err)
			}
		}
	}
}

func TestUsersResolveNamesInEveryForm(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "dig", "getent", "curl")
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	web, a := l.Host(1).Endpoint("blue", "web", "--alias", "www")
	client, _ := l.Host(2).Endpoint("blue", "client")
	web.NS.ServeHTTP(t, netip.IPv4Unspecified(), "hello from web\n")

	names := []string{"web", "www", "WEB", "web.blue", "www.blue", "web.blue.weft.internal", "www.blue.weft.internal"}
	for _, s := range []*agenttest.Sandbox{web, client} {
		for _, name := range names {
			agenttest.Eventually(t, time.Second, string(s.NS)+": getent "+name, func() error {
				got, err := s.Getent(name)
				if err == nil && !slices.Equal(got, []netip.Addr{a.Addr()}) {
					err = fmt.Errorf("got %v, want %v", got, a.Addr())
				}
				return err
			})
		}
		dig := s.NS.Must(t, "dig", "+short", "+tries=1", "@"+a.Gateway.String(), "-x", a.Addr().String())
		if got := strings.TrimSpace(dig); got != "web.blue.weft.internal." {
			t.Errorf("%s: PTR of %v: %q", s.NS, a.Addr(), got)
		}
	}
	// An address of the other family does not exist, and the name does: a
	// resolver that hears NXDOMAIN to AAAA would give up the A as well.
	dig := client.NS.Must(t, "dig", "+tries=1", "@"+a.Gateway.String(), "AAAA", "web.blue.weft.internal")
	if !strings.Contains(dig, "status: NOERROR") {
		t.Errorf("AAAA of an IPv4 endpoint: %s", dig)
	}
	if r := client.Exec("curl", "-s", "-m", "5", "http://web/"); r.Stdout != "hello from web\n" {
		t.Errorf("HTTP by name: %s", r)
	}
}

func TestEndpointsOfOneNameGiveAllAddresses(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	one := l.Host(1).Sandbox("web")
	a := one.Attach("blue", "web")
	two, b := l.Host(2).Endpoint("blue", "web")
	if a.Addr() == b.Addr() {
		t.Fatalf("two endpoints with the address %v", a.Addr())
	}
	name := agenttest.FQDN("web", "blue")
	for _, o := range from {
		agenttest.Eventually(t, time.Second, o.Host.Name+": both addresses", o.DNS.Wants(name, a.Addr(), b.Addr()))
	}
	// Each of them comes first at some time, so that both are used.
	first := map[string]bool{}
	for range 20 {
		r := from[0].NS.Must(t, "dig", "+short", "+tries=1", "@"+a.Gateway.String(), name)
		first[strings.Fields(r)[0]] = true
	}
	if len(first) != 2 {
		t.Errorf("the first address of 20 answers is always %v", first)
	}
	two.Detach("blue", b.ID)
	for _, o := range from {
		agenttest.Eventually(t, time.Second, o.Host.Name+": the one that is left", o.DNS.Wants(name, a.Addr()))
	}
	// The end of a container is a detach too.
	one.Remove()
	for _, o := range from {
		agenttest.Eventually(t, 5*time.Second, o.Host.Name+": none", o.DNS.Wants(name))
	}
}

func TestNetworksAreIsolated(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("red")
	from := l.Observers("blue")
	for _, h := range l.Hosts {
		_, secret := h.Endpoint("red", "secret")
		for _, o := range from {
			if err := o.PingOnce(secret.Addr()); err == nil {
				t.Errorf("%s reaches %v of another network, on %s", o.NS, secret.Addr(), h.Name)
			}
			if r, err := o.DNS.Ask(agenttest.FQDN("secret", "red"), 5*time.Second); err != nil || r.Rcode != "NXDOMAIN" {
				t.Errorf("%s asks for a name of another network: %+v, %v", o.NS, r, err)
			}
		}
	}
	for _, o := range from { // and it is not that nothing works
		for _, other := range from {
			if err := o.PingOnce(other.Addr); err != nil {
				t.Errorf("within the network: %v", err)
			}
		}
	}
}

func TestEgressLeavesWithTheHostsAddress(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("inner", "--internal")
	l.Internet.ServeHTTP(t, agenttest.InternetAddr, "the internet\n")
	url := "http://" + agenttest.InternetAddr.String() + "/"
	for _, h := range l.Hosts {
		s, _ := h.Endpoint("blue", "out")
		if r := s.Exec("curl", "-s", "-m", "5", "--fail", url); r.Stdout != "the internet\n" {
			t.Errorf("egress: %s", r)
		}
		if err := s.PingOnce(agenttest.InternetAddr); err != nil {
			t.Errorf("egress: %v", err)
		}
		inner, _ := h.Endpoint("inner", "inside")
		if r := inner.Exec("curl", "-s", "-m", "1", url); r.Code == 0 {
			t.Errorf("an internal network reaches the internet: %s", r)
		}
	}
}

// A host that is dead, with a network of nothing but silence, loses its names
// on the others within 15 seconds, and has them again within 2 seconds of being
// seen alive. Its addresses stay programmed: only a person removes a host.
func TestNamesOfADeadHostAreHiddenUntilItReturns(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	dead := l.Host(3)
	_, web := dead.Endpoint("blue", "web")
	name := agenttest.FQDN("web", "blue")
	for _, o := range from {
		agenttest.Eventually(t, time.Second, o.Host.Name+": before", o.DNS.Wants(name, web.Addr()))
	}

	l.Cut(dead)
	dead.Kill()
	start := time.Now()
	for _, o := range from[:2] {
		took := agenttest.Eventually(t, 15*time.Second-time.Since(start), o.Host.Name+": the name is hidden", o.DNS.Wants(name))
		t.Logf("%s hides the name after %v", o.Host.Name, took)
		if !o.Host.Holds(t, web.Addr()) {
			t.Errorf("%s took the address down", o.Host.Name)
		}
	}

	l.Heal(dead)
	dead.Start()
	for _, o := range from[:2] {
		agenttest.Eventually(t, 30*time.Second, o.Host.Name+": sees it alive", func() error {
			if m := o.Host.Members()[dead.Name]; m.Status != "alive" {
				return fmt.Errorf("%+v", m)
			}
			return nil
		})
		took := agenttest.Eventually(t, 2*time.Second, o.Host.Name+": the name is back", o.DNS.Wants(name, web.Addr()))
		t.Logf("%s shows the name %v after it saw the host alive", o.Host.Name, took)
	}
	for _, o := range from[:2] {
		if err := o.PingOnce(web.Addr()); err != nil {
			t.Errorf("after the return: %v", err)
		}
	}
}

// A client whose libc sorts addresses by their prefix comes to every endpoint of a
// name, and to the one on its own host first.
func TestClientsThatSortAddressesAreSpread(t *testing.T) {
	t.Parallel()
	const tries = 60
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 4})
	l.Host(1).CreateNetwork("blue")
	l.Host(1).CreateNetwork("one", "-o", "dns_answers=1")
	client := l.Host(4).Sandbox("client")
	client.Attach("blue", "client")
	client.Attach("one", "client")
	addr := map[netip.Addr]string{}
	for _, h := range l.Hosts[:3] {
		s := h.Sandbox("web")
		for _, network := range []string{"blue", "one"} {
			a := s.Attach(network, "web-"+h.Name, "--alias", "web")
			addr[a.Addr()] = network + " " + h.Name
		}
	}
	came := func(network string) map[string]int {
		firsts := map[string]int{}
		for range tries {
			found, err := client.Getent(agenttest.FQDN("web", network))
			if err != nil || len(found) == 0 || len(found) > 2 {
				t.Fatalf("%s: %v, %v", network, found, err)
			}
			firsts[addr[found[0]]]++
		}
		t.Logf("%s: the first of %d answers: %v", network, tries, firsts)
		return firsts
	}
	for _, network := range []string{"blue", "one"} {
		agenttest.Eventually(t, 2*time.Second, network+": all are known", func() error {
			if found, err := client.Getent("_all.web." + network + ".weft.internal"); err != nil || len(found) != 3 {
				return fmt.Errorf("%v, %v", found, err)
			}
			return nil
		})
		if firsts := came(network); len(firsts) != 3 {
			t.Errorf("%s: clients came to %v, want to three", network, firsts)
		}
	}
	here := l.Host(4).Sandbox("near").Attach("blue", "near", "--alias", "web")
	addr[here.Addr()] = "here"
	if firsts := came("blue"); firsts["here"] != tries {
		t.Errorf("with one on the client's host: %v", firsts)
	}
}
