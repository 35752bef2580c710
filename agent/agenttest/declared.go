package agenttest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// documented are lines of Docker's documentation with weft for the driver, and what
// the cluster has then: subnet, range, gateway and MTU, where the line says them.
var documented = []struct{ name, flags, want string }{
	{"my-multihost-network", "", ""},
	{"my-attachable-overlay", "--attachable", ""},
	{"br0", "--subnet=172.28.0.0/16 --ip-range=172.28.5.0/24 --gateway=172.28.5.254", "172.28.0.0/16 172.28.5.254 172.28.5.0/24"},
	{"my-network", "--subnet=192.168.10.0/25 --gateway=192.168.10.100 --aux-address my-router=192.168.10.5 --aux-address my-switch=192.168.10.6",
		"192.168.10.0/25 192.168.10.100  map[my-router:192.168.10.5 my-switch:192.168.10.6]"},
	{"my-ingress-network", "--subnet=10.11.0.0/16 --gateway=10.11.0.2 --opt com.docker.network.driver.mtu=1200", "10.11.0.0/16 10.11.0.2  map[] 1200"},
	{"isolated", "--internal --label com.example.team=web", ""},
}

// DeclaredNetworks makes networks by here's docker network create, as documented. The
// cluster has each at once for here's containers, and there's engine has it as its own.
func DeclaredNetworks(t *testing.T, here, there *Engine) {
	t.Helper()
	for _, d := range documented {
		args := append([]string{"network", "create", "-d", "weft", "--ipam-driver", "weft"}, append(strings.Fields(d.flags), d.name)...)
		here.Must(args...)
		one := here.Container(d.name, "on-"+d.name)
		there.AwaitNetwork(d.name)
		there.Container(d.name, "also-on-"+d.name)
		assertDeclared(t, here, there, d.name, d.want)
		if r := there.Docker("exec", "also-on-"+d.name, "ping", "-c", "1", "-W", "2", one.String()); r.Code != 0 {
			t.Errorf("%s: %s", d.name, r)
		}
		for _, e := range []*Engine{here, there} {
			e.Must("rm", "-f", "on-"+d.name, "also-on-"+d.name)
		}
	}
}

// assertDeclared checks that the cluster has a network as the line said, and both
// engines the same.
func assertDeclared(t *testing.T, here, there *Engine, name, want string) {
	t.Helper()
	has := there.Host.Inspect(name)
	if c := has.IPAM.Config[0]; !strings.HasPrefix(strings.TrimSpace(fmt.Sprintln(c.Subnet, c.Gateway, c.IPRange, c.AuxiliaryAddresses, has.MTU)), want) {
		t.Errorf("%s: the cluster has %+v, mtu %d, want %s", name, c, has.MTU, want)
	}
	if a, b := here.Inspect(name), there.Inspect(name); a.Internal != b.Internal || a.IPAM.Config[0].Subnet != b.IPAM.Config[0].Subnet {
		t.Errorf("%s: %+v on %s, %+v on %s", name, a, here.Host.Name, b, there.Host.Name)
	}
	if p, err := netip.ParsePrefix(has.IPAM.Config[0].Subnet); err != nil || !p.IsValid() {
		t.Errorf("%s has no subnet: %v", name, err)
	}
}

// TypedHints asks Docker for networks that cannot be, and types the hint of each.
func TypedHints(t *testing.T, here, there *Engine) {
	t.Helper()
	there.Host.MustCtl("network", "create", "taken", "--subnet", "10.198.0.0/16")
	here.AwaitNetwork("taken")
	for i, line := range []string{
		"-d weft", // Docker's own IPAM
		"-d weft --internal -o mtu=1300",
		"-d weft --subnet 10.99.0.0/24",
		"-d weft --ipam-driver weft --subnet 10.198.7.0/24",
		"-d weft --ipam-driver weft --subnet 127.1.0.0/16",
		"-d weft --ipam-driver weft --subnet 10.99.0.0/24 --ip-range 10.99.0.1/32",
		"-d weft --ipam-driver weft --subnet 10.99.0.0/24 --subnet 10.99.1.0/24",
		"-d weft --ipam-driver weft --opt encrypted",
		"-d weft --ipam-driver weft --ipam-opt colour=red",
		"-d weft --ipam-driver weft --subnet 10.198.0.0/16 --internal",
		"-d weft --ipam-driver weft --subnet 10.198.0.0/16 --gateway 10.198.0.9",
		"-d weft --ipam-driver weft --subnet 10.198.0.0/16 --ip-range 10.198.3.0/24",
		"-d weft --ipam-driver weft --subnet 10.198.0.0/16 -o mtu=1234",
		"-d weft --ipam-driver weft --ipv6 --subnet fd00:99::/64",
	} {
		name := fmt.Sprintf("typed%d", i)
		r := here.Docker(append([]string{"network", "create"}, append(strings.Fields(line), name)...)...)
		if r.Code == 0 {
			t.Errorf("%s: was taken", line)
			continue
		}
		_, hint, _ := strings.Cut(r.Stderr, "(hint: ")
		hint = strings.TrimSuffix(strings.TrimSpace(hint), ")")
		hint, _, _ = strings.Cut(hint, " # ")
		words := strings.Fields(strings.Replace(hint, "NAME", name, 1))
		if len(words) < 2 || words[0] != "docker" {
			t.Errorf("%s: no line to type in %q", line, r.Stderr)
			continue
		}
		if typed := here.Docker(words[1:]...); typed.Code != 0 {
			t.Errorf("%s: typed %q: %s", line, hint, typed)
		}
	}
}
