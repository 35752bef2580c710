package endpoints_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Devices of a network that is not used any more go after a while. Whoever attaches
// in that moment gets them, and not an error.
func TestNetworkIsThereForWhoeverAttachesAsItsDevicesGo(t *testing.T) {
	t.Parallel()
	const networks, rounds = 12, 3
	l := agenttest.NewCluster(t, agenttest.Config{Hosts: 1})
	h := l.Host(1)
	var sandboxes []*agenttest.Sandbox
	for i := range networks {
		h.CreateNetwork(fmt.Sprintf("net%d", i))
		sandboxes = append(sandboxes, h.Sandbox(fmt.Sprintf("c%d", i)))
	}
	devices := func() int { return strings.Count(h.Fabric.Must(t, "ip", "-o", "link", "show", "type", "vxlan"), "\n") }
	each := func(do func(i int, s *agenttest.Sandbox)) {
		var wg sync.WaitGroup
		for i, s := range sandboxes {
			wg.Go(func() { do(i, s) })
		}
		wg.Wait()
	}
	for range rounds {
		each(func(i int, s *agenttest.Sandbox) {
			if _, r := s.TryAttach(fmt.Sprintf("net%d", i), "web"); r.Code != 0 {
				t.Error(r)
			}
		})
		all := devices()
		each(func(i int, s *agenttest.Sandbox) { s.Detach(fmt.Sprintf("net%d", i), "web") })
		agenttest.Eventually(t, 30*time.Second, "the first devices go", func() error {
			if n := devices(); n == all {
				return fmt.Errorf("%d devices", n)
			}
			return nil
		})
	}
}
