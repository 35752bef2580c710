package cluster_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// The same hosts do the same things whatever keeps the pool, and with the pool
// away as long as they need nothing new of it.
func TestHostsOnEveryStore(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		store agenttest.Store
		away  bool // the store is killed once every host has an endpoint
	}{
		{"embedded store", agenttest.Embedded, false},
		{"Consul", agenttest.Consul, false},
		{"Consul killed", agenttest.Consul, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := agenttest.NewCluster(t, agenttest.Config{Store: row.store})
			l.Host(1).CreateNetwork("blue")
			from := l.Observers("blue")
			if row.away {
				l.StopConsul()
			}
			comeAndGo(t, l, from)
			restartAll(t, l, from)
			comeAndGo(t, l, from)
			if row.away {
				newNetworkWaitsForTheStore(t, l)
				return
			}
			l.Host(2).CreateNetwork("green")
			_, a := l.Host(3).Endpoint("green", "leaf")
			if blue := l.Host(3).Network("blue").IPAM.Config[0].Subnet; a.Address.Masked().String() == blue {
				t.Errorf("two networks with the subnet %v", blue)
			}
		})
	}
}

// settling is how long members may need to agree, also when all of them were
// killed a moment ago: what one that was just then away did not hear is repeated
// after 150 ms. How fast it goes otherwise is measured in
// agent/hosts/endpoints.
const settling = time.Second

// comeAndGo attaches an endpoint on each host, looks at it from all, and takes
// it away.
func comeAndGo(t *testing.T, l *agenttest.Lab, from []agenttest.Observer) {
	t.Helper()
	name := agenttest.FQDN("guest", "blue")
	for _, h := range l.Hosts {
		guest := h.Sandbox("guest")
		a := guest.Attach("blue", "guest")
		for _, o := range from {
			agenttest.Eventually(t, settling, o.Host.Name+": the guest of "+h.Name, o.DNS.Wants(name, a.Addr()))
			if err := o.PingOnce(a.Addr()); err != nil {
				t.Errorf("first ping to the guest of %s: %v", h.Name, err)
			}
		}
		guest.Detach("blue", "guest")
		for _, o := range from {
			agenttest.Eventually(t, settling, o.Host.Name+" forgets the guest of "+h.Name, o.DNS.Lacks(name))
		}
		guest.Remove()
	}
}

// restartAll kills and starts every agent in turn; nothing may be lost.
func restartAll(t *testing.T, l *agenttest.Lab, from []agenttest.Observer) {
	t.Helper()
	for _, h := range l.Hosts {
		h.Kill()
		h.Start()
		h.AwaitMembers(len(l.Hosts))
	}
	for _, o := range from {
		for _, other := range from {
			name := agenttest.FQDN("on-"+other.Host.Name, "blue")
			agenttest.Eventually(t, settling, o.Host.Name+" after the restarts", o.DNS.Wants(name, other.Addr))
			if err := o.PingOnce(other.Addr); err != nil {
				t.Errorf("after the restarts: %v", err)
			}
		}
		// What was detached just before an agent was killed may stand in its
		// copy on disk: its owner, killed a moment later, corrects it.
		agenttest.Eventually(t, settling, o.Host.Name+" knows that the guest is gone", o.DNS.Lacks(agenttest.FQDN("guest", "blue")))
	}
}

// newNetworkWaitsForTheStore checks that what needs the store fails soon and in
// words, and works when the store is back.
func newNetworkWaitsForTheStore(t *testing.T, l *agenttest.Lab) {
	t.Helper()
	start := time.Now()
	r := l.Host(1).Ctl("network", "create", "green")
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("network create without a store took %v", took)
	}
	agenttest.WantError(t, r, 1)
	l.StartConsul()
	agenttest.Eventually(t, 35*time.Second, "a network once the store is back", func() error {
		if r := l.Host(1).Ctl("network", "create", "green"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}

// The agent that serves the embedded store is killed: another one serves it
// within a second, and knows everything.
func TestAnotherAgentTakesTheEmbeddedStoreOver(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "ss")
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	for round := range 3 {
		server := storeServer(t, l)
		dead := hostOf(t, l, server)
		other := l.Hosts[(round+1)%3]
		if other == dead {
			other = l.Hosts[(round+2)%3]
		}
		if err := syscall.Kill(server, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		name := fmt.Sprintf("after%d", round)
		took := agenttest.Eventually(t, time.Second, "the store answers again", func() error {
			if r := other.Ctl("network", "create", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		t.Logf("%s killed: the store answered %s after %v", dead.Name, other.Name, took)
		if next := storeServer(t, l); next == server {
			t.Errorf("the store is still served by %d", server)
		}
		if since := time.Since(start); since > 3*time.Second {
			t.Errorf("network create took %v", since)
		}
		other.Network("blue") // nothing is lost
		dead.Kill()           // it has ended: this is only said to the lab
		dead.Start()
		dead.AwaitMembers(len(l.Hosts))
		agenttest.Eventually(t, 2*time.Second, dead.Name+" sees the new network", func() error {
			if r := dead.Ctl("network", "inspect", name); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	comeAndGo(t, l, from)
}

var ssPID = regexp.MustCompile(`pid=(\d+)`)

// storeServer is the process that listens on the embedded store's socket.
func storeServer(t *testing.T, l *agenttest.Lab) int {
	t.Helper()
	var pid int
	agenttest.Eventually(t, time.Second, "somebody serves the embedded store", func() error {
		// Of unix sockets ss shows those of its own network namespace only.
		for _, h := range l.Hosts {
			for line := range strings.Lines(h.NS.Run("ss", "-xlpH").Stdout) {
				if m := ssPID.FindStringSubmatch(line); m != nil && strings.Contains(line, l.StoreSocket()) {
					pid, _ = strconv.Atoi(m[1])
					return nil
				}
			}
		}
		return fmt.Errorf("nobody listens on %s", l.StoreSocket())
	})
	return pid
}

func hostOf(t *testing.T, l *agenttest.Lab, pid int) *agenttest.Host {
	t.Helper()
	for _, h := range l.Hosts {
		if h.PID() == pid {
			return h
		}
	}
	t.Fatalf("process %d is no agent of this lab", pid)
	return nil
}
