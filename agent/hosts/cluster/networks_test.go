package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// A hundred networks are removed in one call: all of them, from all hosts.
func TestHundredNetworksAreRemovedInOneCall(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	h := l.Host(1)
	args := []string{"network", "rm"}
	for i := range 100 {
		name := fmt.Sprintf("n%02d", i)
		h.MustCtl("network", "create", name)
		args = append(args, name)
	}
	for i, host := range l.Hosts { // each holds addresses of some
		for j := range 5 {
			host.Endpoint(fmt.Sprintf("n%02d", 10*i+j), fmt.Sprintf("e%d-%d", i, j))
		}
	}
	if r := h.Ctl(args...); r.Code != 5 || !strings.Contains(r.Stderr, "15 of 100 not removed") {
		t.Errorf("with endpoints on 15 of them: %s", r)
	}
	start := time.Now()
	if r := h.Ctl(append(args, "-f")...); r.Code != 0 {
		t.Errorf("by force: %s", r)
	}
	t.Logf("the last 15 took %v", time.Since(start))
	for _, host := range l.Hosts {
		agenttest.Eventually(t, 5*time.Second, host.Name+" has no network", func() error {
			if out := strings.TrimSpace(host.MustCtl("network", "ls", "-q")); out != "" {
				return fmt.Errorf("left: %s", out)
			}
			return nil
		})
	}
}
