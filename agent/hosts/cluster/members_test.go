package cluster_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A host that leaves is as it was before weft came, and may come again.
func TestLeaveTakesEverythingAwayAndTheHostMayComeBack(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	web, a := one.Endpoint("blue", "web")
	client, _ := two.Endpoint("blue", "client")
	agenttest.Eventually(t, 5*time.Second, "client reaches web", func() error { return client.PingOnce(a.Addr()) })

	agenttest.WantError(t, two.Ctl("leave"), 5)
	two.MustCtl("leave", "--purge")
	if links := two.NS.Must(t, "ip", "-br", "link", "show", "type", "veth"); strings.Contains(links, "g00") {
		t.Errorf("links left over:\n%s", links)
	}
	if rules := two.NS.Must(t, "nft", "list", "ruleset"); strings.Contains(rules, "weft") {
		t.Errorf("rules left over:\n%s", rules)
	}
	if _, err := os.Stat(two.Fabric.Path()); err == nil {
		t.Errorf("the fabric namespace %s is still there", two.Fabric)
	}
	if files, _ := filepath.Glob(filepath.Join(two.Dir, "data", "*.json")); len(files) > 0 {
		t.Errorf("files left over: %v", files)
	}
	agenttest.WantError(t, two.Ctl("network", "ls"), 1)
	agenttest.Eventually(t, time.Second, "h2 has left", func() error {
		if s := one.Members()["h2"].Status; s != "left" {
			return fmt.Errorf("its status is %q", s)
		}
		return nil
	})

	two.Join(one)
	again := client.Attach("blue", "client")
	agenttest.Eventually(t, 5*time.Second, "both ways once more", func() error {
		if err := web.PingOnce(again.Addr()); err != nil {
			return err
		}
		return client.PingOnce(a.Addr())
	})
}

// A dead host is removed by force: what it held is free, and when it comes back
// it knows that it was removed, serves nothing new, and joins as a new host.
func TestDeadHostIsRemovedAndComesBackAsANewOne(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one, three := l.Host(1), l.Host(3)
	one.CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	lost, a := three.Endpoint("blue", "lost", "--ip", "10.77.0.200")
	agenttest.WantError(t, one.Ctl("leave", "--force", "h3"), 5) // it is alive
	agenttest.WantError(t, one.Ctl("leave", "--force", "nobody"), 4)

	l.Cut(three)
	three.Kill()
	agenttest.Eventually(t, 15*time.Second, "h3 is dead", func() error {
		if s := one.Members()["h3"].Status; s != "dead" {
			return fmt.Errorf("its status is %q", s)
		}
		return nil
	})
	one.MustCtl("leave", "--force", "h3")
	one.MustCtl("leave", "--force", "h3") // safe to repeat
	_, b := one.Endpoint("blue", "heir", "--ip", a.Addr().String())
	if b.Addr() != a.Addr() {
		t.Fatalf("the dead host's address %v is not free: got %v", a.Addr(), b.Addr())
	}

	l.Heal(three)
	three.Start()
	agenttest.Eventually(t, 15*time.Second, "h3 knows that it was removed", func() error {
		if r := three.Ctl("status"); !strings.Contains(r.Stdout, "forgotten") || r.Code != 1 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	_, r := lost.TryAttach("blue", "more", "--ifname", "eth9")
	agenttest.WantError(t, r, 5)
	two, _ := l.Host(2).Endpoint("blue", "two")
	agenttest.Eventually(t, 5*time.Second, "its new holder serves the address", func() error { return two.PingOnce(b.Addr()) })

	agenttest.WantError(t, three.Ctl("join", one.Addr.String(), "--token-file", one.TokenFile()), 5)
	hint := agenttest.Hints(three.Ctl("status"))[0]
	if r := three.Type(hint, map[string]string{"ADDRESS": one.Addr.String(), "FILE": one.TokenFile()}); r.Code != 0 {
		t.Fatalf("status says to type %q: %s", hint, r)
	}
	back := lost.Attach("blue", "back")
	agenttest.Eventually(t, 5*time.Second, "h3 takes part again", func() error { return two.PingOnce(back.Addr()) })
}

// A host whose disk was lost has its old name refused, and takes it with
// --replace.
func TestRebuiltHostTakesItsNameBack(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	two.Kill()
	if err := os.RemoveAll(filepath.Join(two.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	two.Start()
	join := []string{"join", one.Addr.String(), "--token-file", one.TokenFile()}
	r := two.Ctl(join...)
	agenttest.WantError(t, r, 5)
	if !strings.Contains(r.Stderr, two.Addr.String()) {
		t.Errorf("the holder's address is not named: %s", r)
	}
	two.MustCtl(append(join, "--replace")...)
	_, a := two.Endpoint("blue", "web")
	client, _ := one.Endpoint("blue", "client")
	agenttest.Eventually(t, 5*time.Second, "it takes part", func() error { return client.PingOnce(a.Addr()) })
	// The network can go: nothing of it is held by the host that was replaced.
	one.MustCtl("network", "rm", "-f", "blue")
	two.MustCtl("detach", "blue", "web") // gone already
}

// A port that another program has is named, with the program, by join, and by status
// when the program came later.
func TestProgramOnAPortOfTheAgentIsNamed(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.Start()
	two.Start()
	one.Init()
	join := []string{"join", one.Addr.String(), "--token-file", one.TokenFile()}
	holder := fmt.Sprintf("(pid %d)", os.Getpid())
	tunnel, err := two.NS.ListenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), 4799))
	if err != nil {
		t.Fatal(err)
	}
	r := two.Ctl(join...)
	agenttest.WantError(t, r, 5)
	if !strings.Contains(r.Stderr, "4799/udp") || !strings.Contains(r.Stderr, holder) || strings.Contains(r.Stderr, "blocked") {
		t.Errorf("want the tunnel's port and its holder %s: %s", holder, r)
	}
	tunnel.Close()
	gossip, err := two.NS.ListenTCP(netip.AddrPortFrom(two.Addr, 4798))
	if err != nil {
		t.Fatal(err)
	}
	r = two.Ctl(join...)
	agenttest.WantError(t, r, 5)
	if !strings.Contains(r.Stderr, "4798/tcp") || !strings.Contains(r.Stderr, holder) {
		t.Errorf("want the gossip port and its holder %s: %s", holder, r)
	}
	gossip.Close()
	two.MustCtl(join...)
}

// An endpoint goes with its namespace, and a namespace made again under the
// same name is a new one.
func TestEndpointGoesWithItsNamespace(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue")
	web, a := l.Host(1).Endpoint("blue", "web")
	client, c := l.Host(2).Endpoint("blue", "client")
	dns := client.Resolver(c.Gateway)
	agenttest.Eventually(t, time.Second, "web is known", dns.Wants(agenttest.FQDN("web", "blue"), a.Addr()))
	web.Remove()
	agenttest.Eventually(t, 5*time.Second, "web is forgotten", dns.Lacks(agenttest.FQDN("web", "blue")))
	if out := l.Host(1).MustCtl("endpoint", "ls"); strings.Contains(out, "web") {
		t.Errorf("endpoint ls still has it:\n%s", out)
	}
	fresh := l.Host(1).Sandbox("web")
	b := fresh.Attach("blue", "web")
	agenttest.Eventually(t, time.Second, "the new one is known", dns.Wants(agenttest.FQDN("web", "blue"), b.Addr()))
}

// A network in use is removed by force only: then its endpoints go from every
// host, and its devices.
func TestNetworkIsRemovedByForceWithItsEndpoints(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	l.Observers("blue")
	r := l.Host(1).Ctl("network", "rm", "blue")
	agenttest.WantError(t, r, 5)
	for _, h := range l.Hosts {
		if !strings.Contains(r.Stderr, "on-"+h.Name) {
			t.Errorf("the user on %s is not named: %s", h.Name, r)
		}
	}
	l.Host(1).MustCtl("network", "rm", "-f", "blue")
	for _, h := range l.Hosts {
		agenttest.Eventually(t, 5*time.Second, h.Name+" has nothing of it", func() error {
			if out := h.MustCtl("network", "ls", "-q"); strings.TrimSpace(out) != "" {
				return fmt.Errorf("network ls: %s", out)
			}
			if out := h.MustCtl("endpoint", "ls", "-o", "json"); strings.TrimSpace(out) != "[]" {
				return fmt.Errorf("endpoint ls: %s", out)
			}
			if out := h.Fabric.Must(t, "ip", "-br", "link"); strings.Contains(out, "b001") || strings.Contains(out, "\nk") {
				return fmt.Errorf("links: %s", out)
			}
			return nil
		})
	}
}

// host_access says what a host reaches: none of the endpoints, its own, or all, on
// every host alike. It is told at once what it does not reach.
func TestHostAccess(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 3})
	one, bare := l.Host(1), l.Host(3)
	fetch := func(from *agenttest.Host, a agenttest.Attachment) error {
		start := time.Now()
		r := from.NS.Run("curl", "-sS", "--connect-timeout", "4", "http://"+a.Addr().String()+"/")
		if took := time.Since(start); took > 3500*time.Millisecond { // less than a connection that nobody refuses
			t.Errorf("%s learns after %v about %s: %s", from.Name, took, a.Name, r)
		}
		if r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	}
	for _, tt := range []struct {
		access       string
		local, other bool
	}{{"none", false, false}, {"local", true, false}, {"full", true, true}} {
		network := "reach-" + tt.access
		one.CreateNetwork(network, "-o", "host_access="+tt.access)
		here, a := one.Endpoint(network, "here-"+tt.access)
		there, b := l.Host(2).Endpoint(network, "there-"+tt.access)
		agenttest.Eventually(t, time.Second, "names are answered with host_access="+tt.access,
			here.Resolver(a.Gateway).Wants(agenttest.FQDN("there-"+tt.access, network), b.Addr()))
		here.NS.ServeHTTP(t, netip.IPv4Unspecified(), "here\n")
		there.NS.ServeHTTP(t, netip.IPv4Unspecified(), "there\n")
		for _, reach := range []struct {
			name string
			from *agenttest.Host
			to   agenttest.Attachment
			want bool
		}{
			{"its own endpoint", one, a, tt.local}, {"one of another host", one, b, tt.other},
			{"one of a network that it does not carry", bare, b, tt.other},
		} {
			within := 5 * time.Second
			if !reach.want {
				within = 0
			}
			if _, err := agenttest.Await(within, func() error { return fetch(reach.from, reach.to) }); (err == nil) != reach.want {
				t.Errorf("host_access=%s: %s reaches %s: got %v, want %t", tt.access, reach.from.Name, reach.name, err, reach.want)
			}
		}
	}
	if r := bare.Ctl("dns", "query", "there-full.reach-full"); r.Code != 0 {
		t.Errorf("a host without endpoints does not know the names: %s", r)
	}
}
