package containers_test

import (
	"testing"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestDockerContainersOfTwoHostsReachEachOther(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	n := l.DockerNetwork(docker, "blue")
	web := docker[0].Container("blue", "web", "--network-alias", "www")
	for _, name := range []string{web.String(), "web", "www", "web.blue"} {
		docker[1].Must("run", "--rm", "--network", "blue", "--dns", n.Gateway().String(), agenttest.Image, "ping", "-c", "1", "-W", "2", name)
	}
}
