package containers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// The address of docker run --ip belongs to the container as long as it exists: while
// it is stopped, on any host, and over a restart of the agent.
func TestDockerAddressOfAStoppedContainerIsKept(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	here, there := docker[0], docker[1]
	// Seven addresses for all: whoever asks gets one that was free if there is one.
	l.DockerNetwork(docker, "small", "--subnet", "10.96.0.0/28")
	a := here.Container("small", "db", "--ip", "10.96.0.2")
	here.Must("stop", "-t", "0", "db")
	l.Host(1).Kill()
	l.Host(1).Start()
	for _, e := range docker {
		for _, name := range []string{"one", "two"} {
			if got := e.Container("small", name); got == a {
				t.Errorf("%s on %s has %s", name, e.Host.Name, got)
			}
		}
	}
	if r := there.Docker("run", "-d", "--network", "small", "--ip", a.String(), agenttest.Image, "true"); r.Code == 0 || !strings.Contains(r.Stderr, "h1") {
		t.Errorf("--ip of a stopped container: %s", r)
	}
	here.Must("start", "db")
	if got := here.Addr("small", "db"); got != a {
		t.Errorf("started again with %s, want %s", got, a)
	}
	here.Must("stop", "-t", "0", "db")
	here.Must("rm", "db")
	agenttest.Eventually(t, 2*time.Second, "the other host may have it", func() error {
		if r := there.Docker("run", "--rm", "--network", "small", "--ip", a.String(), agenttest.Image, "true"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
