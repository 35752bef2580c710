package containers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What Docker or a user asks for in vain is refused in words, and changes
// nothing: neither in the kernel, nor in Docker, nor on the networks.
func TestDockerBadInputIsRefusedInWordsAndLeavesNoTrace(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	e := docker[0]
	l.DockerNetwork(docker, "blue", "--subnet", "10.93.0.0/24")
	l.DockerNetwork(docker, "tiny", "--subnet", "10.94.0.0/30")
	docker[1].Container("blue", "held", "--ip", "10.93.0.77")
	docker[1].Container("tiny", "only")
	e.Container("blue", "near", "--ip", "10.93.0.78", "--mac-address", "02:42:0a:5d:00:4e")
	e.Must("create", "--name", "idle", "--network", "none", agenttest.Image, "true")
	// What Docker keeps of a container that it could not start is Docker's.
	state := func() (all []string) {
		for _, h := range l.Hosts {
			all = append(all, h.Entries(t)...)
			for _, n := range []string{"blue", "tiny"} {
				all = append(all, h.Name+" "+inspected(t, h, n))
			}
		}
		return append(all, strings.Split(e.Must("network", "ls", "--format", "{{.Name}} {{.Driver}}"), "\n")...)
	}
	before := state()

	for _, row := range badInput {
		r := e.Docker(strings.Fields(row.line)...)
		for _, want := range row.wants {
			if r.Code == 0 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%s: want a refusal with %q:\n%s", row.what, want, r)
			}
		}
	}
	// A network that exists, asked for with other settings.
	for _, flags := range [][]string{{"--subnet", "10.95.0.0/24"}, {"--internal"}, {"-o", "mtu=1300"}} {
		r := e.Host.Ctl(append([]string{"network", "create", "blue"}, flags...)...)
		agenttest.WantError(t, r, 5)
		if !strings.Contains(r.Stderr, "blue") {
			t.Errorf("%s", r)
		}
	}
	agenttest.Eventually(t, 5*time.Second, "everything is as before", func() error {
		if diff := agenttest.Diff(before, state()); diff != "" {
			return fmt.Errorf("\n%s", diff)
		}
		return nil
	})
	docker[0].Must("exec", "near", "ping", "-c", "1", "-W", "2", "10.93.0.77")
}

// inspected is a network as network inspect has it, without the blocks of its addresses,
// which hosts claim ahead.
func inspected(t *testing.T, h *agenttest.Host, network string) string {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(h.MustCtl("network", "inspect", network, "-o", "json")), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, c := range all[0]["IPAM"].(map[string]any)["Config"].([]any) {
		delete(c.(map[string]any), "Blocks")
	}
	return fmt.Sprint(all[0])
}

// badInput is what cannot be where held has 10.93.0.77 on the other host and near
// has 10.93.0.78 on this one, both on blue, and tiny is full.
var badInput = []struct {
	what  string
	line  string
	wants []string
}{
	{"an address of another host's container", "run --rm --network blue --ip 10.93.0.77 busybox true", []string{"10.93.0.77", "held on h2", "hint"}},
	{"an address of this host's container", "run --rm --network blue --ip 10.93.0.78 busybox true", []string{"10.93.0.78", "near on h1", "hint"}},
	{"an address outside the subnet", "run --rm --network blue --ip 10.99.0.9 busybox true", []string{"10.99.0.9"}},
	{"no address", "run --rm --network blue --ip 10.93.0.999 busybox true", []string{"10.93.0.999"}},
	{"a port of the host twice", "run --rm --network blue -p 8092:80 -p 8092:81 busybox true", []string{"8092/tcp is asked for twice"}},
	{"a full subnet", "run --rm --network tiny busybox true", []string{"tiny", "hint"}},
	{"a hardware address of a group", "run --rm --network blue --mac-address 01:00:5e:00:00:01 busybox true", []string{"01:00:5e:00:00:01"}},
	{"a hardware address that a container has", "run --rm --network blue --mac-address 02:42:0a:5d:00:4e busybox true", []string{"02:42:0a:5d:00:4e", "near on h1", "hint"}},
	{"a name that exists, from Docker", "network create blue", []string{"blue already exists"}},
	{"a name that exists, of ours", "network create -d weft --ipam-driver weft --ipam-opt network=blue -o network=blue --subnet 10.93.0.0/24 blue", []string{"blue already exists"}},
	{"an option that nobody knows", "network create -d weft --ipam-driver weft --ipam-opt network=blue --subnet 10.93.0.0/24 -o colour=red x", []string{"colour", "no such setting"}},
	{"a network without its subnet, which the host has a route to", "network create -d weft --ipam-driver weft --ipam-opt network=blue x", []string{"--subnet 10.93.0.0/24 NAME"}},
	{"an IPAM option that nobody knows", "network create -d weft --ipam-driver weft --ipam-opt colour=red x", []string{"colour", "unknown option"}},
	{"a subnet over another", "network create -d weft --ipam-driver weft --subnet 10.93.0.0/16 x", []string{"10.93.0.0/16 overlaps network blue", "docker network create -d weft --ipam-driver weft NAME"}},
	{"a network that nobody has", "run --rm --network nowhere busybox true", []string{"nowhere"}},
}

// A network of another driver may take our addresses, since Docker asks for those
// alone: status names it, and once it is gone the network works again.
func TestDockerNetworkOfAnotherDriverWithOurAddresses(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 1)
	e, h := docker[0], l.Host(1)
	l.DockerNetwork(docker, "blue", "--subnet", "10.93.0.0/24")
	web := e.Container("blue", "web", "-p", "8080:80")
	before := h.Entries(t)
	e.Must("network", "create", "-d", "bridge", "--ipam-driver", "weft", "--ipam-opt", "network=blue", "--subnet", "10.93.0.0/24", "odd")
	agenttest.Eventually(t, 5*time.Second, "status names it", func() error {
		if r := h.Ctl("status"); !strings.Contains(r.Stdout, "docker network odd takes addresses of the cluster for driver bridge") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	e.Must("network", "rm", "odd")
	agenttest.Eventually(t, 5*time.Second, "as before", func() error {
		if r := h.Ctl("status"); strings.Contains(r.Stdout, "odd") {
			return fmt.Errorf("%s", r)
		}
		if diff := agenttest.Diff(before, h.Entries(t)); diff != "" {
			return fmt.Errorf("\n%s", diff)
		}
		if r := h.NS.Run("ping", "-c", "1", "-W", "2", web.String()); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
