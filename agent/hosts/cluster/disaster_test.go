package cluster_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// All hosts are lost with their disks. What the manual says to type to Consul lets the
// first new one take the cluster over, networks and all; the old names and addresses
// are free.
func TestAllHostsLostTheirDisks(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2, Store: agenttest.Consul})
	one, two := l.Host(1), l.Host(2)
	one.CreateNetwork("blue", "--subnet", "10.77.0.0/24")
	old, _ := one.Endpoint("blue", "web", "--ip", "10.77.0.77")
	for _, h := range l.Hosts {
		h.Kill()
		if r := h.NS.Run(append(h.Agentd("cleanup")[2:], h.Flags()...)...); r.Code != 0 {
			t.Fatal(r)
		}
		if err := os.RemoveAll(filepath.Join(h.Dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	old.Remove()
	for _, h := range l.Hosts {
		h.Start()
	}
	adopt := []string{"init", "--adopt", "--consul", l.ConsulURL()}
	agenttest.WantError(t, one.Ctl(adopt...), 5)
	manual, err := os.ReadFile("../../../cmd/manual/weft-operations.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^consul# consul kv delete -recurse (weft/v1/[a-z]+/)$`).FindAllSubmatch(manual, -1)
	if len(lines) != 4 {
		t.Errorf("the manual has %d lines to type, want 4", len(lines))
	}
	for _, m := range lines {
		if r := l.Internet.Run(agenttest.Cached(t, "consul-1.12.9"), "kv", "delete", "-http-addr", l.ConsulURL(), "-recurse", string(m[1])); r.Code != 0 {
			t.Error(r)
		}
	}
	one.MustCtl(adopt...)
	two.Join(one)
	_, web := two.Endpoint("blue", "web", "--ip", "10.77.0.77")
	client, _ := one.Endpoint("blue", "client")
	agenttest.Eventually(t, 5*time.Second, "they reach each other", func() error { return client.PingOnce(web.Addr()) })
}
