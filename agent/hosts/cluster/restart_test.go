package cluster_test

import (
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// The agent is not on the path of any packet: killed and started again under
// load it adopts what the kernel holds, and nobody notices.
func TestAgentKilledTenTimesUnderLoadIsNotNoticed(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	killed := l.Host(2)
	neighbour, near := killed.Endpoint("blue", "near") // a second one on the same host
	var names []string
	for _, n := range []string{"on-h1", "on-h2", "on-h3", "near"} {
		names = append(names, agenttest.FQDN(n, "blue"))
	}
	for _, o := range from {
		agenttest.Eventually(t, time.Second, o.Host.Name+": all names", o.DNS.Wants(names[3], near.Addr()))
	}

	monitors := map[string]*agenttest.Monitor{
		"fabric": l.Monitor(killed.Fabric, "link", "neigh"),
		"host":   l.Monitor(killed.NS, "link", "address", "route"),
	}
	before := killed.Entries(t)
	pings := []*agenttest.Pinger{
		from[0].StartPing(from[2].Addr), // between two others
		from[0].StartPing(from[1].Addr), // to the killed one's host
		from[1].StartPing(from[2].Addr), // and from it
		neighbour.StartPing(from[1].Addr),
	}
	var loads []*agenttest.DNSLoad
	for _, o := range from {
		loads = append(loads, o.DNS.Load(names...))
	}
	start := time.Now()
	for range 10 {
		killed.Kill()
		killed.Start()
		for _, h := range l.Hosts {
			h.AwaitMembers(len(l.Hosts))
		}
		pings[0].AwaitReplies(15) // the next blow falls on an agent that has settled
	}
	ran := time.Since(start)
	for _, p := range pings {
		p.AssertNoLoss(ran)
	}
	assertAnswered(t, l, killed, loads)
	for where, m := range monitors {
		if deleted := agenttest.Deleted(m.Stop()); len(deleted) > 0 {
			t.Errorf("%s: deleted by the restarts: %q", where, deleted)
		}
	}
	if diff := agenttest.Diff(before, killed.Entries(t)); diff != "" {
		t.Errorf("the kernel of %s is not what it was:\n%s", killed.Name, diff)
	}
}

// assertAnswered checks that no host denied a name, and that all but the killed one
// answered every question.
func assertAnswered(t *testing.T, l *agenttest.Lab, killed *agenttest.Host, loads []*agenttest.DNSLoad) {
	for i, load := range loads {
		seen := load.Stop()
		t.Logf("DNS on %s: %s", l.Hosts[i].Name, agenttest.Counts(seen))
		if seen["NXDOMAIN"]+seen["no address"] > 0 {
			t.Errorf("a name was denied on %s: %s", l.Hosts[i].Name, agenttest.Counts(seen))
		}
		if l.Hosts[i] != killed && len(seen) != 1 {
			t.Errorf("not every question was answered on %s: %s", l.Hosts[i].Name, agenttest.Counts(seen))
		}
	}
}

// What was attached while an agent was away is known to it when it is back, and
// what was detached is forgotten, without a word of the other agents.
func TestRestartedAgentKnowsWhatHappenedMeanwhile(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	l.Host(1).CreateNetwork("blue")
	from := l.Observers("blue")
	old, gone := l.Host(1).Endpoint("blue", "gone")
	away := l.Host(3)
	agenttest.Eventually(t, time.Second, "before", from[2].DNS.Wants(agenttest.FQDN("gone", "blue"), gone.Addr()))

	away.Stop()
	old.Detach("blue", "gone")
	_, fresh := l.Host(2).Endpoint("blue", "fresh")
	lost := away.Sandbox("lost") // a sandbox that ends while no agent looks
	away.Start()
	a := lost.Attach("blue", "lost")
	agenttest.Eventually(t, time.Second, "an endpoint of the returned host", from[0].DNS.Wants(agenttest.FQDN("lost", "blue"), a.Addr()))
	away.Kill()
	lost.Remove()
	away.Start()

	for _, o := range from {
		for name, want := range map[string]func() error{
			"fresh": o.DNS.Wants(agenttest.FQDN("fresh", "blue"), fresh.Addr()),
			"gone":  o.DNS.Wants(agenttest.FQDN("gone", "blue")),
			"lost":  o.DNS.Wants(agenttest.FQDN("lost", "blue")),
		} {
			agenttest.Eventually(t, 10*time.Second, o.Host.Name+": "+name, want)
		}
	}
	if err := from[2].PingOnce(fresh.Addr()); err != nil {
		t.Error(err)
	}
}
