package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// check is one line of status.
type check struct{ Name, State, Detail, Hint string }

// checks are the lines of a host's status.
func checks(t *testing.T, h *agenttest.Host) map[string]check {
	t.Helper()
	var st struct {
		State  string
		Checks []check
	}
	r := h.Ctl("status", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		t.Fatalf("%s: %v in %s", h.Name, err, r)
	}
	all := map[string]check{"state": {State: st.State}}
	for _, c := range st.Checks {
		all[c.Name] = c
	}
	return all
}

// A member that was broken into announces what is not its own, far too much, and that
// others are forgotten. It is named, and nothing else is as it was not before.
func TestHostileMemberHarmsNobody(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one, two, three := l.Host(1), l.Host(2), l.Host(3)
	id := strings.TrimSpace(one.MustCtl("network", "create", "blue", "--subnet", "10.77.0.0/24"))
	c1, a1 := one.Endpoint("blue", "c1")
	c2, a2 := two.Endpoint("blue", "c2")
	three.Stop()
	before, memory := checks(t, one), map[*agenttest.Host]int{one: one.Memory(), two: two.Memory()}
	ping := c1.StartPing(a2.Addr())
	began := time.Now()
	intruder := three.Intrude(agenttest.Intrusion{Network: id, Gateway: a1.Gateway, Victim: a2.Addr(), MAC: a2.MAC,
		Free: netip.MustParseAddr("10.77.0.250")}, one, two)
	for _, h := range []*agenttest.Host{one, two} {
		agenttest.Eventually(t, 30*time.Second, h.Name+" names the intruder", func() error {
			if ok, wrote := intruder.Running(); !ok {
				t.Fatalf("the intruder ended: %s", wrote)
			}
			if c := checks(t, h)["refused"]; c.State != "warn" || !strings.Contains(c.Detail, "member h3") {
				return fmt.Errorf("refused: %+v", c)
			}
			return nil
		})
	}
	for range 4 {
		ping.AwaitReplies(100)
	}
	ping.AssertNoLoss(time.Since(began))
	for _, s := range []*agenttest.Sandbox{c1, c2} {
		for name, want := range map[string]netip.Addr{"c1": a1.Addr(), "c2": a2.Addr()} {
			if got, err := s.Getent(name); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%s on %s: %v, %v, want %s", name, s.NS, got, err, want)
			}
		}
	}
	after := checks(t, one)
	for name, c := range before {
		if name != "refused" && name != "members" && name != "state" && after[name].State != c.State {
			t.Errorf("%s was %q, is %+v", name, c.State, after[name])
		}
	}
	for h, was := range memory {
		if now := h.Memory(); now > was+20<<20 {
			t.Errorf("%s has %d MiB in memory, %d before", h.Name, now>>20, was>>20)
		}
		if n := len(h.Members()); n > 3 {
			t.Errorf("%s lists %d members", h.Name, n)
		}
	}
	removeIntruder(t, l, intruder)
}

// removeIntruder takes h3 out of the cluster, for good: it goes on and is not heard.
func removeIntruder(t *testing.T, l *agenttest.Lab, i *agenttest.Intruder) {
	t.Helper()
	one := l.Host(1)
	agenttest.WantError(t, one.Ctl("leave", "--force", "h3"), 5) // it lives
	one.MustCtl("leave", "--force", "h3", "--even-if-running")
	agenttest.Eventually(t, 20*time.Second, "nothing is left of h3", func() error {
		if c := checks(t, one)["refused"]; c.State != "ok" || len(one.Members()) != 2 {
			return fmt.Errorf("refused: %+v, members %v", c, one.Members())
		}
		return nil
	})
	if ok, wrote := i.Running(); !ok {
		t.Errorf("the intruder had ended: %s", wrote)
	}
}

// A copied data directory is started beside the original: the original goes on, the
// copy ends and names it, also when both were started since they were copied.
func TestCopiedHostEndsAndTheOriginalGoesOn(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 4})
	one, two, three, copied := l.Host(1), l.Host(2), l.Host(3), l.Host(4)
	for _, h := range []*agenttest.Host{one, two, three} {
		h.Start()
	}
	one.Init()
	for _, h := range []*agenttest.Host{two, three} {
		h.Join(one)
	}
	one.AwaitMembers(3)
	one.CreateNetwork("blue")
	c1, _ := one.Endpoint("blue", "c1")
	_, a2 := two.Endpoint("blue", "c2", "--ip", "10.64.0.200")
	two.Copy(copied)
	for _, restart := range []bool{false, true} {
		if restart {
			two.Stop()
			two.Start()
			one.AwaitMembers(3)
		}
		ping := c1.StartPing(a2.Addr())
		began := time.Now()
		copied.Launch()
		wrote := copied.AwaitEnd()
		if !strings.Contains(wrote, two.Addr.String()) || !strings.Contains(wrote, "hint: rm -r "+copied.Dir) {
			t.Errorf("the copy says %s, want the address of the original and what to do", wrote)
		}
		if m := one.Members()["h2"]; m.Status != "alive" || m.Address != two.Addr.String() {
			t.Errorf("h2 is shown as %+v", m)
		}
		two.MustCtl("endpoint", "ls")
		if c := checks(t, two)["state"]; c.State == "forgotten" || !two.Running() {
			t.Errorf("the original is %s", c.State)
		}
		ping.AssertNoLoss(time.Since(began))
	}
	if _, b := three.Endpoint("blue", "late", "--ip", "10.64.0.201"); b.Addr() == a2.Addr() {
		t.Errorf("the original's address was given to %v", b)
	}
}
