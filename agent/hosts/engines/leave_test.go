package engines_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Hosts whose Docker engine has used the cluster's networks are, when they have
// left, as they were with Docker alone.
func TestDockerHostsAreAsBeforeOnceTheyLeft(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "iptables-save")
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2})
	docker := dockerAlone(t, l)
	var before [][]string
	for _, e := range docker {
		before = append(before, machine(t, e))
	}

	for _, h := range l.Hosts {
		h.Start()
	}
	l.Host(1).Init()
	l.Host(2).Join(l.Host(1))
	for _, n := range []string{"blue", "green"} {
		l.DockerNetwork(docker, n)
	}
	l.DockerNetwork(docker, "inner", "--internal")
	for _, e := range docker {
		e.Container("blue", "web-"+e.Host.Name, "--network-alias", "web", "-p", "18081:80")
		e.Container("green", "db-"+e.Host.Name, "--dns", "203.0.113.9")
		e.Container("inner", "vault-"+e.Host.Name)
		e.Must("network", "connect", "blue", "db-"+e.Host.Name)
	}
	docker[0].Must("exec", "web-h1", "ping", "-c", "1", "-W", "2", docker[1].Addr("blue", "web-h2").String())

	for i, e := range docker {
		if seen := agenttest.Diff(before[i], machine(t, e)); !strings.Contains(seen, "+ nft: table inet weft") || !strings.Contains(seen, "+ docker:  blue weft") {
			t.Fatalf("the look does not see what is ours:\n%s", seen)
		}
		agenttest.WantError(t, e.Host.Ctl("leave"), 5)
		for _, name := range []string{"web-", "db-", "vault-"} {
			e.Must("rm", "-f", name+e.Host.Name)
		}
		agenttest.Eventually(t, 2*time.Second, e.Host.Name+": no endpoint is left", func() error {
			if r := e.Host.Ctl("leave"); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		e.Host.Stop()
		if diff := agenttest.Diff(before[i], machine(t, e)); diff != "" {
			t.Errorf("%s: before the first start and after leave:\n%s", e.Host.Name, diff)
		}
		if files, _ := filepath.Glob(filepath.Join(e.Host.Dir, "run", "*")); len(files) > 0 {
			t.Errorf("in the run directory: %v", files)
		}
		t.Logf("%s: %d lines of state compared", e.Host.Name, len(before[i]))
	}
}

// dockerAlone starts an engine on every host, without an agent, and waits until it is
// at rest.
func dockerAlone(t *testing.T, l *agenttest.Lab) (docker []*agenttest.Engine) {
	for _, h := range l.Hosts {
		e := h.NewEngine()
		e.Start()
		// What the first container of an engine's life makes is Docker's.
		e.Must("run", "--rm", "-p", "18080:80", agenttest.Image, "true")
		agenttest.Eventually(t, 5*time.Second, h.Name+": docker0 is idle", func() error {
			if out := h.NS.Must(t, "ip", "-o", "link", "show", "dev", "docker0"); !strings.Contains(out, "state DOWN") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		docker = append(docker, e)
	}
	return docker
}

// machine is all that a program on the host may have changed, one thing a line.
func machine(t *testing.T, e *agenttest.Engine) []string {
	t.Helper()
	host := e.Host
	var all []string
	for what, args := range map[string][]string{
		"link":     {"ip", "-o", "link"},
		"address":  {"ip", "-o", "address"},
		"route":    {"ip", "route", "show", "table", "all"},
		"rule":     {"ip", "rule"},
		"neigh":    {"ip", "neigh", "show", "nud", "permanent"},
		"nft":      {"nft", "list", "ruleset"},
		"iptables": {"iptables-save"},
		"sysctl":   {"sysctl", "-a", "-r", `^net\.(ipv4|ipv6)\.(conf|ip_|icmp)|^net\.bridge`},
		"socket":   {"ss", "-Hlntu"},
		"group":    {"ip", "-o", "link", "show", "group", "default"},
		"docker":   {"docker", "-H", "unix://" + e.Socket(), "network", "ls", "--format", "{{.Name}} {{.Driver}}"},
	} {
		section := ""
		for line := range strings.Lines(host.NS.Must(t, args...)) {
			line = strings.Join(strings.Fields(fleeting.ReplaceAllString(line, "")), " ")
			if strings.HasPrefix(line, "table ") || strings.HasPrefix(line, "chain ") || strings.HasPrefix(line, "*") {
				section = line
			}
			if !idleBridge.MatchString(line) {
				all = append(all, what+": "+section+" "+line)
			}
		}
	}
	for _, pattern := range []string{"/run/netns/" + string(host.NS) + "*", "/run/netns/" + string(host.Fabric) + "*", "/etc/netns/" + string(host.NS) + "*",
		filepath.Join(host.Dir, "net.d", "*"), filepath.Join(host.Dir, "docker", "*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return all
}

// fleeting is what differs between two looks at one state: the number of an
// interface, the hardware address of an idle bridge, counters and comments.
var fleeting = regexp.MustCompile(`^\d+: |counter packets \d+ bytes \d+|\[\d+:\d+\]|^#.*|valid_lft \S+|preferred_lft \S+|link/ether \S+`)

// idleBridge is the link-local address of Docker's bridge, which comes seconds
// after its first container.
var idleBridge = regexp.MustCompile(`docker0 .*inet6|(fe80|ff00)::.* docker0`)
