package proofs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

func TestMain(m *testing.M) { agenttest.Main(m) }

// shared is a cluster whose hosts share a network, with an endpoint on each, and every
// tunnel proven.
func shared(t *testing.T, cfg agenttest.Config) (l *agenttest.Lab, boxes []*agenttest.Sandbox, at []agenttest.Attachment) {
	t.Helper()
	l = agenttest.NewCluster(t, cfg)
	l.Host(1).CreateNetwork("blue")
	for i, h := range l.Hosts {
		box, a := h.Endpoint("blue", fmt.Sprintf("web%d", i+1))
		boxes, at = append(boxes, box), append(at, a)
	}
	for _, h := range l.Hosts {
		await(t, h, 15*time.Second, "ok", fmt.Sprintf("proven to %d of %d members", len(l.Hosts)-1, len(l.Hosts)-1))
	}
	return l, boxes, at
}

// check is the line of status about the tunnel.
type check struct{ Name, State, Detail, Hint string }

// tunnel is what a host's status says, whether it is well or not.
func tunnel(h *agenttest.Host) (state string, c check, err error) {
	r := h.Ctl("status", "-o", "json")
	var st struct {
		State  string
		Checks []check
	}
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		return "", check{}, fmt.Errorf("%w: %s", err, r)
	}
	for _, c := range st.Checks {
		if c.Name == "tunnel" {
			return st.State, c, nil
		}
	}
	return "", check{}, fmt.Errorf("no check tunnel: %s", r)
}

// await waits until a host says something of the tunnel in that state.
func await(t *testing.T, h *agenttest.Host, within time.Duration, state string, want ...string) check {
	t.Helper()
	var last check
	took := agenttest.Eventually(t, within, fmt.Sprintf("%s says %s: %q", h.Name, state, want), func() error {
		_, c, err := tunnel(h)
		if last = c; err != nil {
			return err
		}
		for _, w := range want {
			if c.State != state || !strings.Contains(c.Detail, w) {
				return fmt.Errorf("%+v", c)
			}
		}
		return nil
	})
	t.Logf("%s after %v: %s (%s)", h.Name, took.Round(time.Millisecond), last.Detail, last.Hint)
	return last
}
