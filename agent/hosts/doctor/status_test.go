package doctor_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// status is what status -o json prints.
type status struct {
	State  string
	Checks []struct {
		Name, State, Detail, Hint string
		Since                     time.Time
	}
}

func statusOf(h *agenttest.Host, more ...string) (status, agenttest.Result, error) {
	r := h.Ctl(append([]string{"status", "-o", "json"}, more...)...)
	var st status
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		return st, r, fmt.Errorf("%w: %s", err, r)
	}
	return st, r, nil
}

// says waits until a host's status is state, and a check of it says all of words.
func says(t *testing.T, h *agenttest.Host, state, check string, words ...string) (hint string, since time.Time) {
	t.Helper()
	agenttest.Eventually(t, 30*time.Second, fmt.Sprintf("%s is %s: %s %q", h.Name, state, check, words), func() error {
		st, r, err := statusOf(h)
		if err != nil {
			return err
		}
		for _, c := range st.Checks {
			if c.Name != check || st.State != state {
				continue
			}
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(c.Detail, w)
			}
			if hint, since = c.Hint, c.Since; !missing {
				return nil
			}
		}
		return fmt.Errorf("%s", r)
	})
	return hint, since
}

// A host says how the cluster is: who is away, since when, and what to type. It is
// starting, not well and not ill, until it has read what it needs.
func TestStatusIsHonest(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{Store: agenttest.Consul})
	one, three := l.Host(1), l.Host(3)
	one.CreateNetwork("blue")
	for i, h := range l.Hosts {
		h.Endpoint("blue", fmt.Sprintf("web%d", i+1))
		says(t, h, "ok", "membership", "3 of 3")
	}

	before := time.Now()
	three.Kill()
	hint, since := says(t, one, "degraded", "membership", "2 of 3", "h3 agent-down since 20")
	if !strings.Contains(hint, "systemctl start agentd # on h3") || since.Before(before) || since.After(time.Now()) {
		t.Errorf("hint %q, since %v, killed after %v", hint, since, before)
	}
	log := one.LogTail(5000)
	for _, line := range []string{`msg="member alive" member=h2 id=`, `msg="member alive" member=h3 id=`, `msg="member down" member=h3 id=`} {
		if !strings.Contains(log, line) {
			t.Errorf("the log does not name the member: no %s", line)
		}
	}
	l.Cut(three)
	if hint, _ = says(t, one, "degraded", "membership", "h3 dead since 20"); !strings.Contains(hint, "agentctl leave --force h3") {
		t.Errorf("hint %q", hint)
	}
	l.Heal(three)

	// It starts while the store is away: what it waits for is named, and status --wait
	// goes over it.
	l.StopConsul()
	three.Start()
	says(t, three, "starting", "start", "the networks and hosts in Consul at "+l.ConsulURL())
	waited := make(chan agenttest.Result, 1)
	go func() { waited <- three.Ctl("status", "--wait", "--timeout", "2m") }()
	agenttest.Eventually(t, 10*time.Second, "status --wait has looked once", func() error {
		if n := strings.Count(three.LogTail(2000), "path=/v1/status"); n < 2 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	l.StartConsul()
	if r := <-waited; r.Code != 0 || !strings.Contains(r.Stderr, "starting") {
		t.Errorf("status --wait: %s", r)
	}
	says(t, three, "ok", "start", "after the start")
	says(t, one, "ok", "membership", "3 of 3")
}
