package runtimes_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

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
	s.NS.Must(t, "ip", "addr", "flush", "dev", "eth0")
	if again := call.must(t, "ADD", conf); again != first {
		t.Errorf("ADD after all was taken away: %s, first %s", again, first)
	}
	call.must(t, "CHECK", checked) // it is all back
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
