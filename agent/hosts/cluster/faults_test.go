package cluster_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// keys lists the keys of the lab's Consul.
func keys(t *testing.T, l *agenttest.Lab) []string {
	t.Helper()
	r := l.Internet.Run("curl", "-s", "-m", "5", l.ConsulURL()+"/v1/kv/weft/v1/?keys")
	var out []string
	if r.Code != 0 || r.Stdout != "" && json.Unmarshal([]byte(r.Stdout), &out) != nil {
		t.Fatalf("keys of Consul: %s", r)
	}
	return out
}

// A Consul that is wiped gets everything back from the agents: each host's
// record, the networks and every block; and no address is given twice.
func TestWipedConsulGetsEverythingBack(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	l := agenttest.NewCluster(t, agenttest.Config{Store: agenttest.Consul})
	for _, network := range []string{"blue", "green"} {
		l.Host(1).CreateNetwork(network)
	}
	l.Host(1).MustCtl("network", "create", "old")
	l.Host(1).MustCtl("network", "rm", "old")
	held := map[netip.Addr]string{}
	attach := func(network string, h *agenttest.Host, name string, flags ...string) {
		t.Helper()
		_, a := h.Endpoint(network, name, flags...)
		if other := held[a.Addr()]; other != "" {
			t.Errorf("%s on %s got %v, which %s has", name, h.Name, a.Addr(), other)
		}
		held[a.Addr()] = name
	}
	for _, h := range l.Hosts {
		attach("blue", h, "blue-"+h.Name)
		attach("green", h, "green-"+h.Name)
	}
	// Outside of every block: a record of its own.
	fixed := netip.MustParsePrefix(l.Host(2).Network("blue").IPAM.Config[0].Subnet).Addr().As4()
	near := func(a netip.Addr) bool { return netip.PrefixFrom(a, 24).Contains(netip.AddrFrom4(fixed)) }
	for slices.ContainsFunc(slices.Collect(maps.Keys(held)), near) {
		fixed[2]++
	}
	fixed[3] = 5
	attach("blue", l.Host(2), "fixed", "--ip", netip.AddrFrom4(fixed).String())
	before := lasting(t, l)
	for _, how := range []string{"while it runs", "while it is away"} {
		wipe(t, l, how == "while it is away")
		took := agenttest.Eventually(t, 60*time.Second, "wiped "+how+": everything is back", func() error {
			if diff := agenttest.Diff(before, lasting(t, l)); diff != "" {
				return fmt.Errorf("keys:\n%s", diff)
			}
			return nil
		})
		t.Logf("wiped %s: back after %v", how, took)
		for _, h := range l.Hosts {
			for i := range 5 {
				name := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(how, " ", "-"), h.Name, i)
				attach("blue", h, name)
			}
		}
		l.Host(3).CreateNetwork(strings.ReplaceAll(how, " ", "-"))
		before = lasting(t, l)
	}
	for _, h := range l.Hosts {
		if out := h.MustCtl("status"); strings.Contains(out, "another host holds") {
			t.Errorf("%s: %s", h.Name, out)
		}
	}
}

// lasting are the keys that a wiped Consul gets back.
func lasting(t *testing.T, l *agenttest.Lab) []string {
	t.Helper()
	return slices.DeleteFunc(keys(t, l), func(k string) bool {
		return !strings.Contains(k, "/blocks/") && !strings.Contains(k, "/ips/") && !strings.Contains(k, "/nets/") &&
			!strings.Contains(k, "/hosts/") && !strings.Contains(k, "/names/") && !strings.Contains(k, "/vnis/") && !strings.HasSuffix(k, "/meta")
	})
}

// wipe takes everything from the lab's Consul, by a request or from its disk while
// it is away.
func wipe(t *testing.T, l *agenttest.Lab, away bool) {
	t.Helper()
	if away {
		l.StopConsul()
		if err := os.RemoveAll(filepath.Join(l.Dir, "consul")); err != nil {
			t.Fatal(err)
		}
		l.StartConsul()
	} else if r := l.Internet.Run("curl", "-sf", "-m", "5", "-X", "DELETE", l.ConsulURL()+"/v1/kv/weft/v1/?recurse"); r.Code != 0 {
		t.Fatalf("wipe: %s", r)
	}
}

// A store that goes away and comes back is one line each in the log, and its
// error names the Consul and not the request.
func TestStoreThatGoesAwayIsSaidOnce(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1, Store: agenttest.Consul})
	h := l.Host(1)
	l.StopConsul()
	r := h.Ctl("network", "create", "blue")
	agenttest.WantError(t, r, 1)
	if !strings.Contains(r.Stderr, "Consul at "+l.ConsulURL()+": ") || strings.Contains(r.Stderr, "/v1/kv") {
		t.Errorf("want the store in words: %s", r)
	}
	agenttest.Eventually(t, 5*time.Second, "status says so", func() error {
		if r := h.Ctl("status"); r.Code != 1 || !strings.Contains(r.Stdout, "Consul at ") || strings.Contains(r.Stdout, "?") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	agenttest.Eventually(t, 5*time.Second, "it is logged", logged(h, "level=WARN msg=\"the store cannot be used", 1))
	l.StartConsul()
	agenttest.Eventually(t, 40*time.Second, "its return is logged", logged(h, "level=INFO msg=\"the store is back", 1))
	if err := logged(h, "level=WARN msg=\"the store cannot be used", 1)(); err != nil {
		t.Error(err)
	}
}

// logged checks that a text stands in so many lines of a host's log.
func logged(h *agenttest.Host, text string, want int) func() error {
	return func() error {
		if n := strings.Count(h.LogTail(1_000_000), text); n != want {
			return fmt.Errorf("%d lines with %q, want %d", n, text, want)
		}
		return nil
	}
}

// A host that the members see alive is not replaced, although a firewall hides
// its gossip port from the one that wants its name.
func TestLivingHostIsNotReplaced(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{})
	one, two, three := l.Host(1), l.Host(2), l.Host(3)
	three.More = []string{"--name", "h2"}
	for _, h := range l.Hosts {
		h.Start()
	}
	one.Init()
	two.Join(one)
	one.AwaitMembers(2)
	two.NS.Must(t, "nft", "add table ip wall; add chain ip wall in { type filter hook input priority 0; }; add rule ip wall in ip saddr "+
		three.Addr.String()+" tcp dport 4798 drop")
	join := []string{"join", one.Addr.String(), "--token-file", one.TokenFile(), "--replace"}
	r := three.Ctl(join...)
	agenttest.WantError(t, r, 5)
	if !strings.Contains(r.Stderr, "not dead") {
		t.Errorf("want the reason: %s", r)
	}
	if m := one.Members()["h2"]; m.Status != "alive" || m.Address != two.Addr.String() {
		t.Errorf("the living host is shown as %+v", m)
	}
	one.MustCtl("network", "create", "blue") // the refused one left nothing that waits

	l.Cut(two)
	two.Kill()
	agenttest.Eventually(t, 20*time.Second, "h2 is dead", func() error {
		if s := one.Members()["h2"].Status; s != "dead" {
			return fmt.Errorf("its status is %q", s)
		}
		return nil
	})
	three.MustCtl(join...)
}

// ip netns exec says nothing of our files, and cleanup takes them back.
func TestCleanupRestoresResolvConf(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.CreateNetwork("blue")
	mine, none := h.Sandbox("mine"), h.Sandbox("none")
	file := func(s *agenttest.Sandbox) string { return filepath.Join("/etc/netns", string(s.NS), "resolv.conf") }
	if err := os.MkdirAll(filepath.Dir(file(mine)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file(mine), []byte("nameserver 192.0.2.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*agenttest.Sandbox{mine, none} {
		a := s.Attach("blue", "web")
		if r := s.Exec("cat", "/etc/resolv.conf"); r.Code != 0 || r.Stderr != "" || !strings.Contains(r.Stdout, a.Gateway.String()) {
			t.Errorf("ip netns exec: %s", r)
		}
	}
	h.Stop()
	if r := h.NS.Run(append(h.Agentd("cleanup")[2:], h.Flags()...)...); r.Code != 0 {
		t.Fatal(r)
	}
	if b, err := os.ReadFile(file(mine)); string(b) != "nameserver 192.0.2.53\n" {
		t.Errorf("after cleanup: %q, %v, want the user's file", b, err)
	}
	if _, err := os.Stat(filepath.Dir(file(none))); err == nil {
		t.Errorf("after cleanup %s is still there", filepath.Dir(file(none)))
	}
	h.Start()
	agenttest.Eventually(t, 5*time.Second, "the endpoints are back with their files", func() error {
		for _, s := range []*agenttest.Sandbox{mine, none} {
			if b, err := os.ReadFile(file(s)); err != nil || !strings.HasPrefix(string(b), "# weft") {
				return fmt.Errorf("%s: %q, %v", file(s), b, err)
			}
		}
		return nil
	})
}

// <host>.host is the host's address on a network that lets it reach everything.
func TestHostsNameOnANetworkWithFullAccess(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	l.Host(1).CreateNetwork("blue", "-o", "host_access=full")
	l.Host(1).CreateNetwork("green")
	s, a := l.Host(1).Endpoint("blue", "web")
	l.Host(2).Endpoint("blue", "far")
	g, b := l.Host(1).Endpoint("green", "green")
	blue := netip.MustParsePrefix(l.Host(1).Network("blue").IPAM.Config[0].Subnet)
	agenttest.Eventually(t, 5*time.Second, "h2.host is on blue", func() error {
		got, err := s.Getent("h2.host.weft.internal")
		if err != nil || len(got) != 1 || !blue.Contains(got[0]) || got[0] == a.Addr() {
			return fmt.Errorf("%v, %v", got, err)
		}
		return s.PingOnce(got[0])
	})
	if err := g.Resolver(b.Gateway).Wants("h2.host.weft.internal.", l.Host(2).Addr)(); err != nil {
		t.Errorf("from green: %v", err)
	}
}

// An agent that was not told its address follows it when it changes: local
// traffic goes on, and within 8 s that with other hosts does too.
//
// Not beside other tests: 5 of the 8 s are what it takes to call a host dead, and
// a machine under load needs longer for the rest.
func TestAgentFollowsItsAddress(t *testing.T) {
	l := agenttest.NewLab(t, agenttest.Config{})
	moved := l.Host(2)
	moved.Follow = true
	for _, h := range l.Hosts {
		h.Start()
	}
	l.Host(1).Init()
	for _, h := range l.Hosts[1:] {
		h.Join(l.Host(1))
	}
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	_, near := moved.Endpoint("blue", "near")
	pid := moved.PID()
	local := from[1].StartPing(near.Addr())
	start := time.Now()
	move := func(addr string) time.Duration {
		start := time.Now()
		moved.Move(netip.MustParseAddr(addr))
		for _, pair := range [][2]int{{0, 1}, {1, 0}, {1, 2}, {2, 1}} {
			agenttest.Eventually(t, 15*time.Second, "the hosts reach each other", func() error {
				return from[pair[0]].PingOnce(from[pair[1]].Addr)
			})
		}
		for _, h := range l.Hosts {
			agenttest.Eventually(t, 15*time.Second, h.Name+" sees it at the new address", func() error {
				if m := h.Members()["h2"]; m.Address != moved.Addr.String() || m.Status != "alive" {
					return fmt.Errorf("%+v", m)
				}
				return nil
			})
		}
		return time.Since(start)
	}
	took := move("192.0.2.102")
	if took > 8*time.Second { // a machine under load: once more
		took = move("192.0.2.104")
	}
	if t.Logf("the others reach it after %v", took); took > 8*time.Second {
		t.Errorf("the others reach it after %v", took)
	}
	local.AssertNoLoss(time.Since(start))
	if !moved.Running() || moved.PID() != pid {
		t.Error("the agent was started again")
	}
	_, late := moved.Endpoint("blue", "late")
	agenttest.Eventually(t, 2*time.Second, "what is attached afterwards is reached", func() error { return from[0].PingOnce(late.Addr()) })

	// One that was told its address says that it is gone.
	pinned := l.Host(3)
	pinned.Move(netip.MustParseAddr("192.0.2.103"))
	agenttest.Eventually(t, 5*time.Second, "status says so", func() error {
		if r := pinned.Ctl("status"); r.Code != 1 || !strings.Contains(r.Stdout, "no device of this host has its address 192.0.2.3") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// A cluster that all hosts have left is taken over with its networks, and others
// join the host that did.
func TestAdoptedClusterIsJoined(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	two.MustCtl("leave")
	one.MustCtl("leave")
	agenttest.WantError(t, two.Ctl("init"), 5)
	two.MustCtl("init", "--adopt")
	one.Join(two)
	web, _ := one.Endpoint("blue", "web")
	_, far := two.Endpoint("blue", "far")
	agenttest.Eventually(t, 5*time.Second, "they reach each other", func() error { return web.PingOnce(far.Addr()) })
}
