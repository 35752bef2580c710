package runtimes_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	for _, from := range guests {
		for _, to := range guests {
			if to.name == from.name {
				continue // podman writes a container's own name into its /etc/hosts
			}
			agenttest.Eventually(t, 5*time.Second, from.name+" reaches "+to.name, func() error { return from.reaches(to) })
		}
	}
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

func TestPodmanContainersGetWhatTheyAskFor(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	h.CreateNetwork("blue", "--subnet", "10.71.0.0/16")
	p := h.Podman()
	p.Start("Web.1", "--network", "blue", "--network-alias", "www", "--network-alias", "front", "--ip", "10.71.9.9", "--mac-address", "0e:00:00:00:09:09")
	row := h.Endpoints()["web-1"]
	if row.Address != "10.71.9.9/16" || row.MAC != "0e:00:00:00:09:09" || !slices.Contains(row.Aliases, "www") || !slices.Contains(row.Aliases, "front") {
		t.Errorf("%+v", row)
	}
	if r := p.Exec("Web.1", "ip", "address", "show", "dev", "eth0"); !strings.Contains(r.Stdout, "10.71.9.9/16") || !strings.Contains(r.Stdout, "0e:00:00:00:09:09") {
		t.Errorf("%s", r)
	}
	if r := p.Exec("Web.1", "cat", "/etc/resolv.conf"); !strings.Contains(r.Stdout, "nameserver 10.71.0.1\n") || !strings.HasPrefix(r.Stdout, "search blue.weft.internal weft.internal") {
		t.Errorf("%s", r)
	}
	if left, _ := filepath.Glob("/etc/netns/netns-*"); len(left) > 0 {
		t.Errorf("a resolv.conf of ours for a container whose runtime writes it: %v", left)
	}

	// An error is the agent's, hint and all, and leaves nothing.
	r := p.TryStart("twin", "--network", "blue", "--ip", "10.71.9.9")
	if r.Code == 0 || !strings.Contains(r.Stderr, "10.71.9.9 is taken by web-1 on h1") || !strings.Contains(r.Stderr, "agentctl endpoint ls") {
		t.Errorf("%s", r)
	}
	if row, ok := h.Endpoints()["twin"]; ok {
		t.Errorf("left over: %+v", row)
	}
	// A restart is a new namespace for the same container.
	p.Must("restart", "-t", "0", "Web.1")
	if row := h.Endpoints()["web-1"]; row.Address != "10.71.9.9/16" {
		t.Errorf("after restart: %+v", row)
	}
	// Its ports are the agent's to publish, once for all of its networks.
	h.CreateNetwork("red")
	p.Start("pub", "--network", "blue,red", "-p", "8080:80")
	if out := h.MustCtl("endpoint", "ls"); strings.Count(out, "0.0.0.0:8080->80/tcp") != 1 {
		t.Errorf("endpoint ls:\n%s", out)
	}
	if r := p.TryStart("late", "--network", "blue", "-p", "8080:80"); r.Code == 0 || !strings.Contains(r.Stderr, "taken by") {
		t.Errorf("a port that is taken: %s", r)
	}
	p.Must("rm", "-f", "-t", "0", "-a")
	agenttest.Eventually(t, time.Second, "everything is gone", func() error {
		if rows := h.Endpoints(); len(rows) > 0 {
			return fmt.Errorf("%v", rows)
		}
		return nil
	})
}

// A container that ends while its host has no agent is nobody's endpoint when
// there is one again, and one that goes on is the same as before.
func TestPodmanContainersComeAndGoWithoutAnAgent(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	awaitConflist(t, one, "blue")
	p := one.Podman()
	p.Start("stays", "--network", "blue")
	p.Start("goes", "--network", "blue")
	before := one.Endpoints()["stays"]
	one.Kill()
	if r := p.TryStart("early", "--network", "blue"); r.Code == 0 || !strings.Contains(r.Stderr, "is not running") {
		t.Errorf("%s", r)
	}
	p.Run("rm", "-f", "-t", "0", "goes", "early")
	one.Start()
	agenttest.Eventually(t, 5*time.Second, "only the one that stayed is there", func() error {
		rows := two.Endpoints()
		if len(rows) != 1 || rows["stays"].Address != before.Address {
			return fmt.Errorf("%v", rows)
		}
		return nil
	})
}

// What runtimes do beside the plain ADD and DEL, and at the wrong time.
func TestCNIPluginFromAddToGC(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "ip")
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.CreateNetwork("blue")
	h.CreateNetwork("red")
	awaitConflist(t, h, "blue")
	s := h.Sandbox("c1")
	conf := cniConf{"cniVersion": "1.1.0", "name": "blue", "type": "weft", "socket": h.Socket()}
	call := plugin{host: h, container: "c1", netns: s.NS.Path()}

	first := call.must(t, "ADD", conf)
	if again := call.must(t, "ADD", conf); again != first {
		t.Errorf("the same ADD again: %s, first %s", again, first)
	}
	var result map[string]any
	if err := json.Unmarshal([]byte(first), &result); err != nil {
		t.Fatal(err)
	}
	checked := conf.with("prevResult", result)
	call.must(t, "CHECK", checked)
	call.must(t, "STATUS", conf)

	assertCheckSeesWhatIsLost(t, call, s, checked)
	collectStale(t, call, conf)
	deleteTwice(t, call, s, conf, checked)
	deleteAfterTheNetwork(t, call)
	plugin{host: h, container: "c1", netns: "/run/netns/nowhere"}.fails(t, "ADD", conf, 8, "no network namespace /run/netns/nowhere")
	callWithoutAnAgent(t, call, s, conf)
}

// assertCheckSeesWhatIsLost takes from the interface what CHECK looks for.
func assertCheckSeesWhatIsLost(t *testing.T, call plugin, s *agenttest.Sandbox, checked cniConf) {
	s.NS.Must(t, "ip", "route", "delete", "default")
	call.fails(t, "CHECK", checked, 999, "the kernel has no default route")
	s.NS.Must(t, "ip", "link", "set", "eth0", "down")
	call.fails(t, "CHECK", checked, 999, "the interface down")
}

// collectStale checks that GC keeps what is listed and what is not a CNI runtime's.
func collectStale(t *testing.T, call plugin, conf cniConf) {
	h := call.host
	stale := h.Sandbox("stale")
	plugin{host: h, container: "stale", netns: stale.NS.Path()}.must(t, "ADD", conf)
	h.Sandbox("hand").Attach("blue", "hand")
	call.must(t, "GC", conf.with("cni.dev/valid-attachments", []any{map[string]any{"containerID": "c1", "ifname": "eth0"}}))
	if rows := h.Endpoints(); len(rows) != 2 || rows["c1"].Name == "" || rows["hand"].Name == "" {
		t.Errorf("after GC: %v", rows)
	}
}

// deleteTwice checks that DEL needs no namespace, can be repeated, and knows what
// CHECK would say.
func deleteTwice(t *testing.T, call plugin, s *agenttest.Sandbox, conf, checked cniConf) {
	blind := plugin{host: call.host, container: "c1"}
	blind.must(t, "DEL", conf)
	blind.must(t, "DEL", conf)
	call.fails(t, "CHECK", checked, 3, "container c1 has no eth0")
	agenttest.Eventually(t, time.Second, "the interface is gone after DEL", func() error {
		if r := s.NS.Run("ip", "link", "show", "eth0"); r.Code == 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// deleteAfterTheNetwork removes the network before its endpoint.
func deleteAfterTheNetwork(t *testing.T, call plugin) {
	h := call.host
	red := cniConf{"cniVersion": "1.1.0", "name": "red", "type": "weft", "socket": h.Socket()}
	call.must(t, "ADD", red)
	h.MustCtl("network", "rm", "-f", "red")
	call.must(t, "DEL", red)
	call.must(t, "GC", red.with("cni.dev/valid-attachments", []any{}))
	call.fails(t, "ADD", red, 7, "no network red")
	agenttest.Eventually(t, 2*time.Second, "the conflist of red is gone", func() error {
		if _, err := os.Stat(filepath.Join(h.Conflists(), "weft-red.conflist")); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

// callWithoutAnAgent calls while no agent runs; what that one was not told is noticed
// by the next.
func callWithoutAnAgent(t *testing.T, call plugin, s *agenttest.Sandbox, conf cniConf) {
	h := call.host
	call.must(t, "ADD", conf)
	h.Kill()
	call.fails(t, "STATUS", conf, 50, "is not running")
	call.fails(t, "DEL", conf, 11, "is not running")
	h.Start()
	call.must(t, "STATUS", conf)
	call.must(t, "CHECK", conf.with("prevResult", decodedResult(t, call.must(t, "ADD", conf))))
	h.Kill()
	s.Remove()
	h.Start()
	agenttest.Eventually(t, 5*time.Second, "what went while no agent ran is gone", func() error {
		if rows := h.Endpoints(); rows["c1"].Name != "" {
			return fmt.Errorf("%v", rows)
		}
		return nil
	})
}

// The agent of a host that is no member says so at once.
func TestCNIPluginOnAHostThatIsNoMember(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	h.Start()
	s := h.Sandbox("c1")
	conf := cniConf{"cniVersion": "1.1.0", "name": "blue", "type": "weft", "socket": h.Socket()}
	call := plugin{host: h, container: "c1", netns: s.NS.Path()}
	call.fails(t, "STATUS", conf, 50, "not-a-member")
	call.fails(t, "ADD", conf, 999, "is not a member of a cluster")
	call.must(t, "DEL", conf)
	if out := call.must(t, "VERSION", conf); !strings.Contains(out, `"1.1.0"`) {
		t.Errorf("%s", out)
	}
}

type cniConf map[string]any

func (c cniConf) with(key string, v any) cniConf {
	out := cniConf{key: v}
	for k, v := range c {
		out[k] = v
	}
	return out
}

func decodedResult(t *testing.T, text string) (r map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// plugin is weft-cni called as a runtime does.
type plugin struct {
	host             *agenttest.Host
	container, netns string
}

func (p plugin) call(t *testing.T, verb string, conf cniConf) agenttest.Result {
	t.Helper()
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return agenttest.Run(string(stdin), p.host.NS.Enter("env", "CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.container, "CNI_NETNS="+p.netns,
		"CNI_IFNAME=eth0", "CNI_PATH="+p.host.Plugins(), filepath.Join(p.host.Plugins(), "weft"))...)
}

func (p plugin) must(t *testing.T, verb string, conf cniConf) string {
	t.Helper()
	r := p.call(t, verb, conf)
	if r.Code != 0 {
		t.Fatalf("%s: %s\n%s", verb, r, p.host.LogTail(5))
	}
	return r.Stdout
}

func (p plugin) fails(t *testing.T, verb string, conf cniConf, code int, want string) {
	t.Helper()
	r := p.call(t, verb, conf)
	var e struct {
		Code int
		Msg  string
	}
	if err := json.Unmarshal([]byte(r.Stdout), &e); err != nil || r.Code == 0 || e.Code != code || !strings.Contains(e.Msg, want) {
		t.Errorf("%s: want code %d and %q, got %s", verb, code, want, r)
	}
}

// podman gives a container's ports with each of its networks, in any order, and
// listens on them itself: they follow the container over its networks.
func TestPodmanPortsFollowItsNetworks(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue")
	one.CreateNetwork("red")
	one.MustCtl("network", "create", "inner", "--internal")
	for _, n := range []string{"blue", "red", "inner"} {
		awaitConflist(t, one, n)
	}
	podman := one.Podman()
	for range 4 {
		podman.Start("both", "--network", "inner,blue", "-p", "8022:80")
		podman.Must("rm", "-f", "-t", "0", "both")
	}
	podman.Start("Web.One", "--network", "blue", "-p", "8090:80")
	served := func(what string) {
		t.Helper()
		agenttest.Eventually(t, 3*time.Second, what, func() error {
			if r := two.NS.Run("curl", "-sS", "--max-time", "1", fmt.Sprintf("http://%s:8090/", one.Addr)); r.Stdout != "hello\n" {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	if r := podman.Exec("Web.One", "sh", "-c", "mkdir /www; echo hello >/www/index.html; httpd -p 80 -h /www"); r.Code != 0 {
		t.Fatalf("%s", r)
	}
	served("on blue")
	one.MustCtl("network", "connect", "red", "Web.One")
	podman.Must("network", "disconnect", "blue", "Web.One")
	served("on red, as blue is gone")
	podman.Must("network", "connect", "blue", "Web.One")
	one.MustCtl("network", "disconnect", "red", "Web.One")
	served("on blue again")
	podman.Must("network", "disconnect", "blue", "Web.One")
	podman.Must("network", "connect", "blue", "Web.One")
	served("on its only network, off and on")
	podman.Must("rm", "-f", "-t", "0", "Web.One")
	if r := podman.TryStart("next", "--network", "blue", "-p", "8090:80"); r.Code != 0 {
		t.Errorf("the port is not free: %s", r)
	}

	// podman tells a plugin of a new name when the container starts.
	podman.Must("rename", "next", "later")
	podman.Must("restart", "-t", "0", "later")
	if _, ok := one.Endpoints()["later"]; !ok {
		t.Errorf("renamed and restarted, got %v", one.Endpoints())
	}
}
