package engines_test

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// steady is a TCP connection to a container that echoes lines.
type steady struct {
	t    *testing.T
	conn io.ReadWriteCloser
	in   *bufio.Reader
	sent int
}

// dial connects a sandbox to a container that echoes on port 7.
func dial(t *testing.T, from *agenttest.Sandbox, to netip.Addr) *steady {
	t.Helper()
	s := &steady{t: t}
	agenttest.Eventually(t, 5*time.Second, "the container listens", func() error {
		c, err := from.NS.DialTCP(netip.AddrPortFrom(to, 7))
		if err == nil {
			s.conn, s.in = c, bufio.NewReader(c)
		}
		return err
	})
	t.Cleanup(func() { s.conn.Close() })
	s.alive("connected")
	return s
}

// alive sends a line and waits until it comes back on the same connection.
func (s *steady) alive(when string) {
	s.t.Helper()
	s.sent++
	line := fmt.Sprintf("line %d\n", s.sent)
	if _, err := io.WriteString(s.conn, line); err != nil {
		s.t.Fatalf("%s: the connection is lost: %v", when, err)
	}
	type answer struct {
		text string
		err  error
	}
	back := make(chan answer, 1)
	go func() {
		text, err := s.in.ReadString('\n')
		back <- answer{text, err}
	}()
	select {
	case got := <-back:
		if got.err != nil || got.text != line {
			s.t.Fatalf("%s: sent %q, got %q, %v", when, line, got.text, got.err)
		}
	case <-time.After(5 * time.Second):
		s.t.Fatalf("%s: no answer within 5 s", when)
	}
}

// echo runs a container that echoes on port 7.
func echo(t *testing.T, e *agenttest.Engine, network, name string, flags ...string) netip.Addr {
	t.Helper()
	args := append([]string{"run", "-d", "--name", name, "--network", network}, flags...)
	e.Must(append(args, agenttest.Image, "nc", "-ll", "-p", "7", "-e", "cat")...)
	return e.Addr(network, name)
}

// Neither the end of the agent nor, with live-restore, that of the engine is
// noticed by a connection between two hosts.
func TestDockerConnectionsOutliveAgentAndEngine(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2, "--live-restore")
	e := docker[0]
	l.DockerNetwork(docker, "blue")
	server := echo(t, e, "blue", "echo")
	client, a := l.Host(2).Endpoint("blue", "client")
	dns := client.Resolver(a.Gateway)
	c := dial(t, client, server)

	for range 3 {
		e.Host.Kill()
		c.alive("the agent was killed")
		e.Host.Start()
		c.alive("the agent is back")
	}
	agenttest.Eventually(t, 5*time.Second, "name after the agent's restart", dns.Wants(agenttest.FQDN("echo", "blue"), server))
	e.Kill()
	c.alive("the engine was killed")
	e.Start("--live-restore")
	c.alive("the engine is back after kill -9")
	e.Stop()
	c.alive("the engine was stopped")
	e.Host.Kill()
	e.Host.Start() // an agent that starts without an engine keeps the endpoints
	c.alive("agent restarted without an engine")
	e.Start("--live-restore")
	c.alive("the engine is back")

	// And everything goes on: what was begun in an earlier life of both ends.
	e.Must("rename", "echo", "echo2")
	agenttest.Eventually(t, 2*agenttest.Follows, "renamed", dns.Wants(agenttest.FQDN("echo2", "blue"), server))
	e.Must("rm", "-f", "echo2")
	agenttest.Eventually(t, agenttest.Follows, "removed", dns.Wants(agenttest.FQDN("echo2", "blue")))
	e.Must("run", "--rm", "--network", "blue", agenttest.Image, "ping", "-c", "1", "-W", "1", a.Addr().String())
}

// An engine without live-restore takes its containers down with it: what it
// does not tell the agent is found by comparing.
func TestDockerEngineThatTakesItsContainersAlong(t *testing.T) {
	t.Parallel()
	l, docker := agenttest.DockerHosts(t, 2)
	e := docker[0]
	l.DockerNetwork(docker, "blue")
	l.DockerNetwork(docker, "gone")
	e.Container("blue", "always", "--restart", "always", "--ip", l.Host(1).Network("blue").Number(77).String())
	e.Container("blue", "once")
	watcher, a := l.Host(2).Endpoint("blue", "watcher")
	dns := watcher.Resolver(a.Gateway)
	always := e.Addr("blue", "always")

	e.Stop()
	agenttest.Eventually(t, 2*agenttest.Follows, "stopped gracefully", dns.Wants(agenttest.FQDN("once", "blue")))
	// Meanwhile a network is removed.
	l.Host(2).MustCtl("network", "rm", "gone")
	e.Start()
	agenttest.Eventually(t, 5*time.Second, "restart=always", dns.Wants(agenttest.FQDN("always", "blue"), always))
	agenttest.Eventually(t, 5*time.Second, "the network removed meanwhile", func() error {
		if out := e.Must("network", "ls", "--format", "{{.Name}}"); strings.Contains(out, "gone") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})

	e.Must("start", "once")
	e.Kill()
	e.Start()
	agenttest.Eventually(t, 5*time.Second, "killed: restart=always", dns.Wants(agenttest.FQDN("always", "blue"), always))
	agenttest.Eventually(t, 5*time.Second, "killed: once", dns.Wants(agenttest.FQDN("once", "blue")))

	// The engine starts while no agent runs, and the agent while no engine does.
	e.Stop()
	e.Host.Kill()
	e.Launch()
	e.Host.Start()
	e.Ready()
	agenttest.Eventually(t, 20*time.Second, "engine and agent started together", func() error {
		if r := e.Docker("start", "always"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return dns.Wants(agenttest.FQDN("always", "blue"), always)()
	})
	endWithoutAnAgent(t, e, dns)
}

// endWithoutAnAgent ends containers while no agent runs. That is found by comparing: at
// once, but for one that was so young that Docker might not have listed it yet.
func endWithoutAnAgent(t *testing.T, e *agenttest.Engine, dns *agenttest.Resolver) {
	e.Must("start", "once")
	once := e.Addr("blue", "once")
	const young = 10 * time.Second
	time.Sleep(young) // the age is what is tested
	youngster := e.Container("blue", "young")
	agenttest.Eventually(t, agenttest.Follows, "a young one", dns.Wants(agenttest.FQDN("young", "blue"), youngster))
	e.Host.Kill()
	e.Must("kill", "once", "young")
	e.Host.Start()
	agenttest.Eventually(t, 4*time.Second, "ended while no agent ran", dns.Wants(agenttest.FQDN("once", "blue")))
	agenttest.Eventually(t, young+4*time.Second, "a young one that ended", dns.Wants(agenttest.FQDN("young", "blue")))
	heir := e.Host.Sandbox("heir")
	agenttest.Eventually(t, 5*time.Second, "its address is free", func() error {
		_, r := heir.TryAttach("blue", "heir", "--ip", once.String())
		if r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
