package containers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

// The lines of Docker's documentation with weft for the driver make networks of the
// cluster, with what they say; and the hint of a line that cannot be is one that can.
func TestNetworksThatDockerMakesAreTheClusters(t *testing.T) {
	t.Parallel()
	_, docker := agenttest.DockerHosts(t, 2)
	agenttest.DeclaredNetworks(t, docker[0], docker[1])
	agenttest.TypedHints(t, docker[0], docker[1])
}

// A compose file that declares its networks comes up on two hosts: they are the same
// networks there, whichever host was first, and also when both are at once.
func TestComposeFileThatDeclaresItsNetworksComesUpOnTwoHosts(t *testing.T) {
	t.Parallel()
	var docker []*agenttest.Engine
	for _, h := range agenttest.AskingCluster(t, 2).Hosts {
		e := h.NewEngine()
		e.ResolvConf("nameserver " + agenttest.NamedServer.String())
		e.Start()
		docker = append(docker, e)
	}
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "docker-compose.yml")
	if err := os.WriteFile(file, []byte(composeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(e *agenttest.Engine, args ...string) agenttest.Result {
		return agenttest.Run("", append([]string{"docker-compose", "-H", "unix://" + e.Socket(), "-f", file}, args...)...)
	}
	compose := func(e *agenttest.Engine, args ...string) agenttest.Result {
		t.Helper()
		r := try(e, args...)
		if r.Code != 0 {
			t.Fatalf("%s: %s\n%s", e.Host.Name, r, e.LogTail(20))
		}
		return r
	}
	compose(docker[0], "up", "-d", "web")
	docker[1].AwaitNetwork("shop_backend")
	docker[1].AwaitNetwork("shop_auto")
	compose(docker[1], "up", "-d", "client")
	for _, n := range []string{"shop_backend", "shop_auto"} {
		one, two := docker[0].Inspect(n), docker[1].Inspect(n)
		if fmt.Sprint(one.IPAM.Config) != fmt.Sprint(two.IPAM.Config) {
			t.Errorf("%s: %v on h1, %v on h2", n, one.IPAM.Config, two.IPAM.Config)
		}
	}
	for _, name := range []string{"web", "web.shop_backend", "web.shop_auto"} {
		agenttest.Eventually(t, 2*agenttest.Follows, "the client reaches "+name, func() error {
			if r := docker[1].Docker("exec", "shop_client_1", "ping", "-c", "1", "-W", "1", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	for _, e := range docker {
		compose(e, "down", "-t", "0")
	}
	for _, n := range []string{"shop_backend", "shop_auto"} {
		docker[0].Host.MustCtl("network", "rm", n)
	}
	t.Run("at once", func(t *testing.T) { upAtOnce(t, docker, try) })
}

// upAtOnce brings the file up on both hosts at the same moment. docker-compose looks
// for a network and then makes it: when the other host's comes in between, it ends,
// and finds the network when it is called again.
func upAtOnce(t *testing.T, docker []*agenttest.Engine, try func(*agenttest.Engine, ...string) agenttest.Result) {
	for _, e := range docker {
		agenttest.Eventually(t, 3*agenttest.Follows, e.Host.Name+": the networks are gone", func() error {
			if out := e.Must("network", "ls", "--format", "{{.Name}}"); strings.Contains(out, "shop") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	up := func(e *agenttest.Engine, service string) {
		r := try(e, "up", "-d", service)
		if r.Code != 0 && strings.Contains(r.Stderr, "already exists") {
			r = try(e, "up", "-d", service)
		}
		if r.Code != 0 {
			t.Errorf("%s: %s\n%s", e.Host.Name, r, e.LogTail(20))
		}
	}
	var both sync.WaitGroup
	both.Go(func() { up(docker[0], "web") })
	up(docker[1], "client")
	both.Wait()
	for _, name := range []string{"web.shop_backend", "web.shop_auto"} {
		agenttest.Eventually(t, 5*agenttest.Follows, "the client reaches "+name, func() error {
			if r := docker[1].Docker("exec", "shop_client_1", "ping", "-c", "1", "-W", "1", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
}

const composeFile = `version: "3.8"
services:
  web: &service
    image: busybox
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]
    networks: [backend, auto]
  client: *service
networks:
  backend:
    driver: weft
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    labels: {team: shop}
    ipam:
      driver: weft
      config:
        - subnet: 10.97.0.0/24
          gateway: 10.97.0.254
          ip_range: 10.97.0.128/25
  auto:
    driver: weft
    ipam: {driver: weft}
`
