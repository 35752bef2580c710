package runtimes_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// guest is a container, of whatever runtime, and what it is called.
type guest struct {
	name    string
	aliases []string
	exec    func(args ...string) agenttest.Result
}

// reaches checks that one container reaches another by every name, and that ping
// shows the name that the address is called back.
func (g guest) reaches(other guest) error {
	full := strings.TrimSuffix(agenttest.FQDN(other.name, "blue"), ".")
	for _, name := range append([]string{other.name, other.name + ".blue", full}, other.aliases...) {
		r := g.exec("ping", "-c", "1", "-W", "1", name)
		if want := "from " + full + " ("; r.Code != 0 || !strings.Contains(r.Stdout, want) {
			return fmt.Errorf("want %q in %s", want, r)
		}
	}
	return nil
}

// awaitConflist waits until a host's runtimes can be told of a network.
func awaitConflist(t *testing.T, h *agenttest.Host, network string) {
	t.Helper()
	agenttest.Eventually(t, 2*time.Second, h.Name+": a conflist of "+network, func() error {
		_, err := os.Stat(filepath.Join(h.Conflists(), "weft-"+network+".conflist"))
		return err
	})
}

// Podman on one host, containerd on another and the CNI's own tool on a third:
// each finds the network where runtimes look, and every container reaches every
// other by all its names.
func TestContainersOfEveryRuntimeReachEachOther(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one, two, three := l.Host(1), l.Host(2), l.Host(3)
	net := one.CreateNetwork("blue")
	for _, h := range l.Hosts {
		awaitConflist(t, h, "blue")
	}

	podman := one.Podman()
	podman.Start("web", "--network", "blue", "--network-alias", "www")
	containerd := two.Containerd()
	resolv := fmt.Sprintf("nameserver %s\nsearch blue.weft.internal weft.internal\n", net.Gateway())
	if err := os.WriteFile(filepath.Join(containerd.Tree, "etc", "resolv.conf"), []byte(resolv), 0o644); err != nil {
		t.Fatal(err)
	}
	containerd.Start("box")
	bare, observer := three.Sandbox("bare"), three.Sandbox("observer")
	observer.Attach("blue", "observer")
	// cnitool writes no resolv.conf either: that of the namespace is ours here.
	os.MkdirAll("/etc/netns/"+string(bare.NS), 0o755)
	if err := os.WriteFile("/etc/netns/"+string(bare.NS)+"/resolv.conf", []byte(resolv), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := three.CNITool(`CAP_ARGS={"aliases":["db","cache"]}`, "add", "blue", bare.NS.Path()); r.Code != 0 {
		t.Fatalf("%s", r)
	}

	guests := []guest{
		{"web", []string{"www"}, func(args ...string) agenttest.Result { return podman.Exec("web", args...) }},
		{containerd.Name("box"), nil, func(args ...string) agenttest.Result { return containerd.Exec("box", args...) }},
		{"db", []string{"cache"}, bare.Exec},
	}
	assertAllReachAll(t, guests)
	rows := three.Endpoints()
	for name, runtime := range map[string]string{"web": "podman", containerd.Name("box"): "cni", "db": "cni", "observer": "netns"} {
		if rows[name].Runtime != runtime {
			t.Errorf("%s: runtime %q, want %q", name, rows[name].Runtime, runtime)
		}
	}

	// Gone within a second, however its runtime says so.
	dns := observer.Resolver(net.Gateway())
	podman.Must("rm", "-f", "-t", "0", "web")
	agenttest.Eventually(t, time.Second, "web is gone", dns.Wants(agenttest.FQDN("web", "blue")))
	containerd.Stop("box")
	agenttest.Eventually(t, time.Second, "box is gone", dns.Wants(agenttest.FQDN(containerd.Name("box"), "blue")))
	if r := three.CNITool("del", "blue", bare.NS.Path()); r.Code != 0 {
		t.Errorf("%s", r)
	}
	agenttest.Eventually(t, time.Second, "db is gone", dns.Wants(agenttest.FQDN("db", "blue")))
}

// Two Docker hosts, one with podman, one with containerd and one with a
// namespace that no runtime made, all on one network: everyone reaches everyone
// by all names through the resolver that its own runtime gave it, and ping
// shows what the address is called.
func TestDockerPodmanContainerdAndNamespacesOnOneNetwork(t *testing.T) {
	t.Parallel()
	l := agenttest.AskingCluster(t, 5)
	docker := []*agenttest.Engine{l.Host(1).NewEngine(), l.Host(2).NewEngine()}
	for _, e := range docker {
		e.ResolvConf("nameserver " + agenttest.NamedServer.String())
		e.Launch()
	}
	for _, e := range docker {
		e.Ready()
	}
	blue := l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "green")
	three, four, five := l.Host(3), l.Host(4), l.Host(5)
	awaitConflist(t, three, "blue")
	awaitConflist(t, four, "blue")

	web := docker[0].Container("blue", "web", "--network-alias", "www")
	docker[1].Container("blue", "api", "--network-alias", "rest", "--network-alias", "rpc")
	podman := three.Podman()
	podman.Start("db", "--network", "blue", "--network-alias", "sql")
	containerd := four.Containerd()
	resolv := fmt.Sprintf("nameserver %s\nsearch blue.weft.internal weft.internal\n", blue.Gateway())
	if err := os.WriteFile(filepath.Join(containerd.Tree, "etc", "resolv.conf"), []byte(resolv), 0o644); err != nil {
		t.Fatal(err)
	}
	// ctr puts a container on the first network in the alphabet: on blue.
	containerd.Start("box")
	unit, _ := five.Endpoint("blue", "unit", "--alias", "service")

	guests := []guest{
		ofDocker(docker[0], "web", "www"),
		ofDocker(docker[1], "api", "rest", "rpc"),
		{"db", []string{"sql"}, func(args ...string) agenttest.Result { return podman.Exec("db", args...) }},
		{containerd.Name("box"), nil, func(args ...string) agenttest.Result { return containerd.Exec("box", args...) }},
		{"unit", []string{"service"}, unit.Exec},
	}
	assertAllReachAll(t, guests)
	runtimes := map[string]string{"web": "docker", "api": "docker", "db": "podman", containerd.Name("box"): "cni", "unit": "netns"}
	rows := five.Endpoints()
	for name, runtime := range runtimes {
		if rows[name].Runtime != runtime {
			t.Errorf("%s: runtime %q, want %q", name, rows[name].Runtime, runtime)
		}
	}

	docker[1].Container("green", "outsider")
	outsider := ofDocker(docker[1], "outsider")
	assertKeptOut(t, outsider, guests[0], web)
	docker[1].Must("network", "connect", "--alias", "guest", "blue", "outsider")
	outsider.aliases = []string{"guest"}
	docker[1].Must("exec", "outsider", "ping", "-n", "-c", "1", "-W", "1", "api")
	for _, g := range guests {
		if g.name == "api" {
			continue // the same Docker calls it api.blue, without a domain
		}
		agenttest.Eventually(t, 2*agenttest.Follows, "connected: outsider reaches "+g.name, func() error { return outsider.reaches(g) })
		agenttest.Eventually(t, 2*agenttest.Follows, "connected: "+g.name+" reaches outsider", func() error { return g.reaches(outsider) })
	}
}

// assertAllReachAll waits until every container reaches every other by all its names.
// Its own name podman writes into its /etc/hosts.
func assertAllReachAll(t *testing.T, guests []guest) {
	for _, from := range guests {
		for _, to := range guests {
			if from.name != to.name {
				agenttest.Eventually(t, 5*time.Second, from.name+" reaches "+to.name, func() error { return from.reaches(to) })
			}
		}
	}
}

// assertKeptOut checks that who is on another network gets neither a name nor a packet
// through to inside, which has this address.
func assertKeptOut(t *testing.T, outsider, inside guest, addr netip.Addr) {
	before := echoes(t, inside)
	for _, name := range []string{"web", "www", "web.blue", "web.blue.weft.internal"} {
		// A ping that has an address says where it goes, whether it gets there or not.
		if r := outsider.exec("ping", "-c", "1", "-W", "1", name); r.Code == 0 || r.Stdout != "" {
			t.Errorf("a name of another network: %s", r)
		}
	}
	if r := outsider.exec("ping", "-n", "-c", "1", "-W", "1", addr.String()); r.Code == 0 {
		t.Errorf("an address of another network: %s", r)
	}
	if got := echoes(t, inside); got != before {
		t.Errorf("%d packets came through from another network", got-before)
	}
}

// ofDocker is a container of an engine.
func ofDocker(e *agenttest.Engine, name string, aliases ...string) guest {
	return guest{name, aliases, func(args ...string) agenttest.Result {
		return e.Docker(append([]string{"exec", name}, args...)...)
	}}
}

var icmpCounters = regexp.MustCompile(`(?m)^Icmp: (.*)$`)

// echoes is how many pings a container was ever sent (RFC 4293, icmpMsgStats).
func echoes(t *testing.T, g guest) int {
	t.Helper()
	r := g.exec("cat", "/proc/net/snmp")
	lines := icmpCounters.FindAllStringSubmatch(r.Stdout, 2)
	if r.Code != 0 || len(lines) != 2 {
		t.Fatalf("%s", r)
	}
	values := strings.Fields(lines[1][1])
	for i, name := range strings.Fields(lines[0][1]) {
		if name == "InEchos" {
			n, err := strconv.Atoi(values[i])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no InEchos in %s", r.Stdout)
	return 0
}
