package cluster_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What README gives to copy for production works as it stands: three Consul servers, a
// client agent on each host, a token with that policy and no more, and the lines for a
// firewall that drops by default.
func TestReadmeRecipe(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl", "nft")
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 5, Store: agenttest.Consul})
	l.StopConsul() // it is another one
	hosts, servers := l.Hosts[:2], l.Hosts[2:]
	for _, h := range hosts {
		dropByDefault(t, h, readme)
	}
	consulOfReadme(t, l, readme, servers)
	token := weftToken(t, readme, servers[0])
	for _, h := range hosts {
		file := filepath.Join(l.Dir, h.Name+".token")
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.More = []string{"--consul-token-file", file}
		h.Start()
	}
	one, two := hosts[0], hosts[1]
	one.MustCtl("init", "--consul", "http://127.0.0.1:8500")
	two.Join(one)
	one.CreateNetwork("backend")
	_, web := one.Endpoint("backend", "web")
	client, _ := two.Endpoint("backend", "client")
	agenttest.Eventually(t, 10*time.Second, "client reaches web by its name", func() error {
		got, err := client.Getent("web")
		if err != nil || len(got) != 1 || got[0] != web.Addr() {
			return fmt.Errorf("web is %v, %v, want %s", got, err, web.Addr())
		}
		return client.PingOnce(web.Addr())
	})
	for _, h := range hosts {
		h.MustCtl("status", "--wait", "--timeout", "30s")
	}
}

// dropByDefault gives a host a firewall, with the holes that README has.
func dropByDefault(t *testing.T, h *agenttest.Host, readme string) {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^nft add rule inet filter input .*$`).FindAllString(readme, -1)
	if len(lines) != 3 {
		t.Fatalf("README has %d lines for a firewall, want 3", len(lines))
	}
	// Of Consul and ping README says nothing.
	for _, line := range append([]string{
		"nft add table inet filter",
		"nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'",
		"nft add rule inet filter input ct state established,related accept",
		"nft add rule inet filter input iif lo accept",
		"nft add rule inet filter input tcp dport 8301 accept",
		"nft add rule inet filter input udp dport 8301 accept",
	}, lines...) {
		if r := h.NS.Run("sh", "-c", line); r.Code != 0 {
			t.Fatal(r)
		}
	}
}

// consulOfReadme starts Consul on all machines with README's file, and waits for a leader.
func consulOfReadme(t *testing.T, l *agenttest.Lab, readme string, servers []*agenttest.Host) {
	t.Helper()
	_, file, _ := strings.Cut(readme, "```\nbind_addr")
	file, _, found := strings.Cut("bind_addr"+file, "```")
	client, _, ofServers := strings.Cut(file, "\nserver ")
	if !found || !ofServers {
		t.Fatalf("README's file is %q", file)
	}
	key := strings.TrimSpace(ran(t, servers[0], "keygen"))
	for i, h := range l.Hosts {
		text := client + "\n"
		if i >= len(l.Hosts)-len(servers) {
			text = file
		}
		dir := filepath.Join(l.Dir, "consul-"+h.Name)
		text = regexp.MustCompile(`(?m)^bind_addr .*$`).ReplaceAllString(text, `bind_addr = "`+h.Addr.String()+`"`)
		for n, s := range servers {
			text = strings.ReplaceAll(text, fmt.Sprintf(`"192.0.2.%d"`, 11+n), `"`+s.Addr.String()+`"`)
		}
		text = strings.NewReplacer(`"KEY"`, `"`+key+`"`, `"/var/lib/consul"`, `"`+dir+`"`).Replace(text)
		conf := filepath.Join(l.Dir, h.Name+".d")
		if err := errors.Join(os.Mkdir(conf, 0o700), os.WriteFile(filepath.Join(conf, "consul.hcl"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		args := h.NS.Enter(agenttest.Cached(t, "consul-1.12.9"), "agent", "-config-dir", conf, "-node", h.Name, "-disable-host-node-id", "-log-level", "warn")
		c := exec.Command(args[0], args[1:]...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Process.Kill()
			c.Wait()
		})
	}
	for _, h := range l.Hosts {
		agenttest.Eventually(t, time.Minute, h.Name+": a leader", func() error {
			r := h.NS.Run("curl", "-s", "-m", "1", "http://127.0.0.1:8500/v1/status/leader")
			if _, err := netip.ParseAddrPort(strings.Trim(strings.TrimSpace(r.Stdout), `"`)); err != nil {
				return errors.New(r.String())
			}
			return nil
		})
	}
}

// weftToken makes the policy and the token of README, and returns its secret.
func weftToken(t *testing.T, readme string, server *agenttest.Host) string {
	t.Helper()
	secret := regexp.MustCompile(`(?m)^SecretID: *(\S+)`)
	var manager string
	agenttest.Eventually(t, 30*time.Second, "the first token", func() error {
		r := server.NS.Run(agenttest.Cached(t, "consul-1.12.9"), "acl", "bootstrap")
		m := secret.FindStringSubmatch(r.Stdout)
		if m == nil {
			return errors.New(r.String())
		}
		manager = m[1]
		return nil
	})
	var token string
	for _, m := range regexp.MustCompile(`(?m)^consul1# consul (acl (?:policy|token) create .*?)(?: +#.*)?$`).FindAllStringSubmatch(readme, -1) {
		r := server.NS.Run("env", "CONSUL_HTTP_TOKEN="+manager, "sh", "-c", agenttest.Cached(t, "consul-1.12.9")+" "+m[1])
		if r.Code != 0 {
			t.Fatal(r)
		}
		if m := secret.FindStringSubmatch(r.Stdout); m != nil {
			token = m[1]
		}
	}
	if token == "" {
		t.Fatal("README makes no token")
	}
	return token
}

// ran is what a command of Consul says.
func ran(t *testing.T, h *agenttest.Host, args ...string) string {
	t.Helper()
	r := h.NS.Run(append([]string{agenttest.Cached(t, "consul-1.12.9")}, args...)...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}
