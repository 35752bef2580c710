package runtimes_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Debian's podman is too old for plugins of netavark: they are called here as
// plugin-API.md says.
func TestNetavarkPluginFromCreateToTeardown(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "ip")
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	network := func(h *agenttest.Host) map[string]any {
		return map[string]any{"name": "shop", "id": "2f259bab93aa", "driver": "weft", "internal": false, "ipv6_enabled": false, "dns_enabled": true,
			"subnets": []any{}, "ipam_options": map[string]any{"driver": "host-local"}, "options": map[string]any{"socket": h.Socket()}}
	}
	// The first host makes the network, the second takes it over.
	networks := map[*agenttest.Host]any{}
	for _, h := range l.Hosts {
		agenttest.Eventually(t, 2*time.Second, h.Name+": create", func() error {
			r := callNetavark(t, h, network(h), "create")
			var made struct {
				Subnets []struct{ Subnet, Gateway string }
				IPAM    map[string]string `json:"ipam_options"`
			}
			if err := json.Unmarshal([]byte(r.Stdout), &made); err != nil || r.Code != 0 || len(made.Subnets) != 1 || made.IPAM["driver"] != "none" {
				return fmt.Errorf("%v: %s", err, r)
			}
			networks[h] = json.RawMessage(r.Stdout)
			return nil
		})
	}
	setup := func(h *agenttest.Host, name string, s *agenttest.Sandbox) map[string]any {
		t.Helper()
		in := map[string]any{"container_id": "id-of-" + name, "container_name": name, "port_mappings": nil, "network": networks[h],
			"network_options": map[string]any{"aliases": []string{name + "-too"}, "interface_name": "eth0", "static_ips": nil, "static_mac": nil}}
		if r := callNetavark(t, h, in, "setup", s.NS.Path()); r.Code != 0 {
			t.Fatalf("%s", r)
		}
		return in
	}
	a, b := one.Sandbox("a"), two.Sandbox("b")
	setup(one, "alpha", a)
	in := setup(two, "beta", b)
	gateway := one.Network("shop").Gateway()
	dns := a.Resolver(gateway)
	row := two.Endpoints()["beta"]
	if row.Runtime != "podman" || row.Container != "id-of-beta" {
		t.Errorf("%+v", row)
	}
	address := netip.MustParsePrefix(row.Address).Addr()
	for _, name := range []string{"beta", "beta-too"} {
		agenttest.Eventually(t, 2*time.Second, "alpha resolves "+name, dns.Wants(agenttest.FQDN(name, "shop"), address))
	}
	if err := a.PingOnce(address); err != nil {
		t.Error(err)
	}
	for range 2 { // a second time there is nothing left to do
		if r := callNetavark(t, two, in, "teardown", b.NS.Path()); r.Code != 0 || r.Stdout != "" {
			t.Errorf("%s", r)
		}
	}
	agenttest.Eventually(t, time.Second, "beta is gone", dns.Wants(agenttest.FQDN("beta", "shop")))
}

// callNetavark calls the plugin on a host as netavark does.
func callNetavark(t *testing.T, h *agenttest.Host, stdin any, args ...string) agenttest.Result {
	t.Helper()
	b, err := json.Marshal(stdin)
	if err != nil {
		t.Fatal(err)
	}
	return agenttest.Run(string(b), h.NS.Enter(append([]string{filepath.Join(agenttest.Programs(t), "weft-netavark")}, args...)...)...)
}
