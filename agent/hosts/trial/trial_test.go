package trial_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// report is what test -o json prints.
type report struct {
	ID                      string
	Passed, Failed, Skipped int
	TookMS                  int `json:"took_ms"`
	Hosts                   []string
	Checks                  []struct{ Name, State, Host, Why, Hint string }
	Unasked                 []struct{ Host, Why string }
}

// failed are the checks that did not pass, with what was said.
func (r report) failed() (all []string) {
	for _, c := range r.Checks {
		if c.State != "passed" {
			all = append(all, c.Name+" "+c.State+": "+c.Why+" | "+c.Hint)
		}
	}
	return all
}

// run runs the suite on a host.
func run(t *testing.T, h *agenttest.Host, args ...string) (report, agenttest.Result) {
	t.Helper()
	r := h.Ctl(append([]string{"test", "-o", "json"}, args...)...)
	var out report
	if r.Stdout != "" {
		if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	return out, r
}

// clean waits until no host has anything of a run: networks, endpoints, devices, leases.
func clean(t *testing.T, l *agenttest.Lab, within time.Duration) {
	t.Helper()
	for _, h := range l.Hosts {
		if !h.Running() {
			continue
		}
		agenttest.Eventually(t, within, h.Name+" has nothing of a run", func() error {
			if out := h.MustCtl("network", "ls", "-o", "json"); strings.Contains(out, "weft-test-") {
				return fmt.Errorf("networks: %s", out)
			}
			if out := h.MustCtl("endpoint", "ls", "--all", "-o", "json"); strings.Contains(out, "weft-test-") {
				return fmt.Errorf("endpoints: %s", out)
			}
			for line := range strings.Lines(h.Fabric.Must(t, "ip", "-br", "link")) {
				if strings.HasPrefix(line, "b00") || strings.HasPrefix(line, "k") { // a bridge, an endpoint's port
					return fmt.Errorf("device: %s", line)
				}
			}
			return nil
		})
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one := l.Host(1)
	got, r := run(t, one, "--perf")
	t.Logf("%d passed, %d failed, %d skipped in %d ms", got.Passed, got.Failed, got.Skipped, got.TookMS)
	if r.Code != 0 || got.Passed < 60 || got.Failed > 0 || got.Skipped != 3 || !strings.HasPrefix(got.failed()[0], "docker/h1 skipped: the Docker engine does not answer") || got.TookMS > 60000 || strings.Join(got.Hosts, " ") != "h1 h2 h3" {
		t.Errorf("%s\n%s", strings.Join(got.failed(), "\n"), r.Stderr)
	}
	clean(t, l, 40*time.Second)
	if out := one.MustCtl("events", "--kind", "test-run"); !strings.Contains(out, "0 failed") {
		t.Errorf("the events: %s", out)
	}

	const wall = "ip netns exec %[1]s nft 'add table %[2]s %[3]s; add chain %[2]s %[3]s c { type filter hook %[4]s; }; add rule %[2]s %[3]s c %[5]s drop'"
	type fault struct{ on, family, hook, rule, run, says, hint string }
	for name, faults := range map[string][]fault{ // those of a line are there together: a run takes its time
		"h1 does not send": {
			{"H1", "inet", "output priority 0", "udp dport 4799", "pair/udp/h1-h3", "h1 drops what it sends to h3 on udp port 4799", "# on h1"}},
		"two ends of the tunnel": {
			{"H2", "inet", "input priority 0", "udp dport 4799", "pair/tcp/h1-h2", "h2 drops what h1 sends to it on udp port 4799", "# on h2"},
			{"H3", "inet", "output priority 0", "udp dport 4799", "pair/tcp/h1-h3", "h3 drops what it sends to h1 on udp port 4799", "# on h3"}},
		"beside the tunnel": {
			{"H2", "inet", "prerouting priority -300", "ip daddr 192.0.2.2 tcp dport 27000-32000", "published/tcp/h1-h2", "no answer", "agentctl"},
			{"H2", "inet", "prerouting priority -300", "udp dport 53", "dns/name/h2", "the DNS server does not answer", "agentctl"},
			{"H2", "inet", "input priority 0", "icmp type echo-request", "egress/host/h1-h2", "no answer", "h2"},
			{"F3", "bridge", "forward priority 0", "ip frag-off & 0x1fff != 0", "size/fragments/h1-h3", "no answer", "agentctl"},
			{"F2", "bridge", "forward priority 0", "meta length > 1300", "size/full/h1-h2", "no answer", "agentctl"}},
	} {
		places := strings.NewReplacer("H1", string(l.Host(1).NS), "H2", string(l.Host(2).NS), "H3", string(l.Host(3).NS), "F2", string(l.Host(2).Fabric), "F3", string(l.Host(3).Fabric))
		each := func(do func(i int, f fault) string) {
			for i, f := range faults {
				if r := agenttest.Run("", "sh", "-ec", places.Replace(do(i, f))); r.Code != 0 {
					t.Fatal(r)
				}
			}
		}
		var checks []string
		each(func(i int, f fault) string {
			checks = append(checks, f.run)
			return fmt.Sprintf(wall, f.on, f.family, fmt.Sprintf("wall%d", i), f.hook, f.rule)
		})
		got, r := run(t, one, "--run", "^("+strings.Join(checks, "|")+")$")
		if r.Code != 1 || got.Failed != len(faults) || got.Passed > 0 {
			t.Errorf("%s: %d passed\n%s\n%s", name, got.Passed, strings.Join(got.failed(), "\n"), r.Stderr)
		}
		for _, f := range faults {
			if !slices.ContainsFunc(got.failed(), func(s string) bool {
				what, hint, _ := strings.Cut(s, " | ")
				return strings.HasPrefix(what, f.run+" failed: ") && strings.Contains(what, f.says) && strings.Contains(hint, f.hint)
			}) {
				t.Errorf("%s: %s is not in\n%s\nwith %q, %q", name, f.run, strings.Join(got.failed(), "\n"), f.says, f.hint)
			}
		}
		each(func(i int, f fault) string {
			return fmt.Sprintf("ip netns exec %s nft delete table %s wall%d", f.on, f.family, i)
		})
	}
	clean(t, l, 40*time.Second)
}

// Whatever ends a run, and whoever dies in it, nothing is left.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 3})
	for _, h := range l.Hosts {
		h.More = []string{"--test-peers", fmt.Sprint(h.Name != "h3")}
	}
	l.Assemble()
	one, two := l.Host(1), l.Host(2)

	got, r := run(t, one, "--run", "^pair/tcp|^host/")
	if r.Code != 0 || got.Skipped != 1 || got.Passed != 2 || !slices.ContainsFunc(got.failed(), func(s string) bool { return strings.Contains(s, "host/h3 skipped: test_peers: false") }) {
		t.Errorf("a host that wants no tests: %s\n%s", strings.Join(got.failed(), "\n"), r)
	}
	if out, r := run(t, l.Host(3), "--hosts", "h1,h2", "--run", "pair/tcp"); out.Passed != 2 {
		t.Errorf("asked on a host that takes no part: %s\n%s", strings.Join(out.failed(), "\n"), r.Stderr)
	}

	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		underWay(t, two, one, func(client *os.Process) {
			if err := client.Signal(signal); err != nil {
				t.Error(err)
			}
		})
		clean(t, l, 40*time.Second)
	}
	underWay(t, two, one, func(*os.Process) {
		_, r := run(t, two)
		agenttest.WantError(t, r, 5)
		if !strings.Contains(r.Stderr, "on h1") {
			t.Errorf("who runs it is not named: %s", r)
		}
		two.Kill()
	})
	two.Start()
	clean(t, l, 40*time.Second)
	underWay(t, two, one, func(*os.Process) { one.Kill() })
	clean(t, l, 40*time.Second)
	one.Start()
	clean(t, l, 40*time.Second)
	if got, r := run(t, one, "--run", "pair/tcp"); r.Code != 0 || got.Passed != 2 {
		t.Errorf("the next run: %s\n%s", strings.Join(got.failed(), "\n"), r)
	}
}

// underWay begins a run on a host, does something in the middle of it, and waits until it
// has ended.
func underWay(t *testing.T, sees, on *agenttest.Host, then func(client *os.Process)) {
	t.Helper()
	line := on.NS.Enter(filepath.Join(agenttest.Programs(t), "agentctl"), "--socket", on.Socket(), "test", "-o", "json")
	client := exec.Command(line[0], line[1:]...)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	agenttest.Eventually(t, 20*time.Second, "a run is under way", func() error {
		if out := sees.MustCtl("endpoint", "ls", "-o", "json"); !strings.Contains(out, "c1-") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	then(client.Process)
	_ = client.Wait() // how it ended is not what is asked here
}
