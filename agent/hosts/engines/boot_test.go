package engines_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A machine boots: Docker first, the agent later, and only its sockets from the
// beginning. Twenty times, every container that is to run runs, with its
// networks, and the other host knows its name.
func TestDockerBootsBeforeTheAgent(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "systemd-socket-activate")
	for _, machine := range []string{"first", "second"} {
		t.Run(machine, func(t *testing.T) {
			t.Parallel()
			bootTenTimes(t)
		})
	}
}

func bootTenTimes(t *testing.T) {
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 2})
	h := l.Host(1)
	e := h.NewEngine()
	e.Start()
	one := []*agenttest.Engine{e}
	l.DockerNetwork(one, "blue")
	l.DockerNetwork(one, "green")
	e.Container("blue", "web", "--restart", "always", "--network-alias", "www")
	e.Container("blue", "db", "--restart", "always", "--ip", l.Host(1).Network("blue").Number(77).String())
	e.Container("green", "both", "--restart", "always")
	e.Must("network", "connect", "blue", "both")
	watcher, a := l.Host(2).Endpoint("blue", "watcher")
	dns := watcher.Resolver(a.Gateway)

	var took []time.Duration
	for round := range 10 {
		late := time.Second // the agent, after Docker has asked for it
		if round == 0 {
			late = 5 * time.Second
		}
		e.Stop()
		h.Stop()
		units := h.Activate()
		e.Launch()
		units.AwaitCall(20 * time.Second)
		time.Sleep(late)
		units.Open()
		opened := time.Now()
		e.Ready()
		for name, container := range map[string]string{"web": "web", "www": "web", "db": "db", "both": "both"} {
			agenttest.Eventually(t, 10*time.Second, fmt.Sprintf("boot %d: %s", round+1, name), func() error {
				if out := e.Must("inspect", "-f", "{{.State.Status}}", container); out != "running" {
					return fmt.Errorf("%s is %s: %s", container, out, e.Must("inspect", "-f", "{{.State.Error}}", container))
				}
				addr, err := netip.ParseAddr(e.Must("inspect", "-f", "{{.NetworkSettings.Networks.blue.IPAddress}}", container))
				if err != nil {
					return err
				}
				if err := dns.Wants(agenttest.FQDN(name, "blue"), addr)(); err != nil {
					return err
				}
				return watcher.PingOnce(addr)
			})
		}
		took = append(took, time.Since(opened))
		if out := e.Must("inspect", "-f", "{{.NetworkSettings.Networks.green.IPAddress}}", "both"); out == "" {
			t.Errorf("boot %d: both is not on green", round+1)
		}
	}
	t.Logf("from the agent's begin until every container is reached: at most %v, of %v", slices.Max(took), took)
}

// While the agent is down, `docker run` waits for the one that its socket
// starts.
func TestDockerRunWaitsForTheAgentThatItsSocketStarts(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "systemd-socket-activate")
	l, docker := agenttest.DockerHosts(t, 1)
	h, e := l.Host(1), docker[0]
	l.DockerNetwork(docker, "blue")
	h.Stop()
	units := h.Activate()
	ended := make(chan agenttest.Result, 1)
	begun := time.Now()
	go func() {
		ended <- e.Docker("run", "--rm", "--network", "blue", agenttest.Image, "cat", "/sys/class/net/eth0/operstate")
	}()
	units.AwaitCall(10 * time.Second)
	select {
	case r := <-ended:
		t.Fatalf("it did not wait for the agent: %s", r)
	case <-time.After(2 * time.Second):
	}
	units.Open()
	opened := time.Now()
	if r := <-ended; r.Code != 0 || strings.TrimSpace(r.Stdout) != "up" {
		t.Errorf("%s", r)
	}
	t.Logf("docker run took %v, %v of them after the agent began", time.Since(begun), time.Since(opened))
}

// Without an agent and without its socket Docker says so in the end, and is not
// slower meanwhile where it needs none.
func TestDockerWithoutAnAgentAndItsSocket(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 1)
	h, e := l.Host(1), docker[0]
	l.DockerNetwork(docker, "blue")
	onBridge := func() float64 {
		start := time.Now()
		e.Must("run", "--rm", agenttest.Image, "true")
		return time.Since(start).Seconds()
	}
	var usual, meanwhile []float64
	onBridge()
	for range 7 {
		usual = append(usual, onBridge())
	}
	h.Stop()
	type answer struct {
		agenttest.Result
		took time.Duration
	}
	ended := make(chan answer, 1)
	go func() {
		start := time.Now()
		r := e.Docker("run", "--name", "late", "--network", "blue", agenttest.Image, "true")
		ended <- answer{r, time.Since(start)}
	}()
	var r answer
	for waiting := true; waiting; {
		select {
		case r = <-ended:
			waiting = false
		default:
			meanwhile = append(meanwhile, onBridge())
		}
	}
	if r.Code == 0 || !strings.Contains(r.Stderr, "weft.sock") || r.took > 25*time.Second {
		t.Errorf("after %v: %s", r.took, r.Result)
	}
	_, before, _ := agenttest.Quartiles(usual)
	_, while, _ := agenttest.Quartiles(meanwhile)
	if while > 2*before {
		t.Errorf("docker run on Docker's own bridge takes %.3f s while another waits for the agent, %.3f s before", while, before)
	}
	t.Logf("refused after %v: %s", r.took, strings.TrimSpace(r.Stderr))
	t.Logf("on Docker's own bridge: %.3f s before, %.3f s meanwhile (%d runs)", before, while, len(meanwhile))

	h.Start()
	agenttest.Eventually(t, 5*time.Second, "it starts once there is an agent", func() error {
		if r := e.Docker("start", "-a", "late"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// Docker starts without an agent and without its socket, within Docker's own
// patience: 15 s for each network, and once more for the containers.
func TestDockerStartsWithoutAnAgentAndItsSocket(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 1)
	h, e := l.Host(1), docker[0]
	l.DockerNetwork(docker, "blue")
	e.Container("blue", "web", "--restart", "always")
	starts := func() time.Duration {
		begun := time.Now()
		e.Start()
		return time.Since(begun)
	}
	e.Stop()
	usual := starts()
	e.Stop()
	h.Stop()
	took := starts()
	if limit := 2*15*time.Second + 3*usual + 5*time.Second; took > limit {
		t.Errorf("Docker answers after %v, want at most %v", took, limit)
	}
	t.Logf("Docker answers after %v, with an agent after %v", took, usual)
	e.Must("run", "--rm", agenttest.Image, "true")
	h.Start()
	// Docker has given the container up; a word is enough.
	agenttest.Eventually(t, 10*time.Second, "docker start, with an agent", func() error {
		if r := e.Docker("start", "web"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	h.MustCtl("dns", "query", agenttest.FQDN("web", "blue"))
}
