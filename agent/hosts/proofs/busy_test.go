package proofs_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// While every core of the machine is busy, and the tunnel with traffic, nothing is said of
// the tunnel that is not so.
func TestBusyHostsMakeNoAlarm(t *testing.T) {
	t.Parallel()
	l, boxes, at := shared(t, agenttest.Config{Hosts: 3})
	var stop atomic.Bool
	defer stop.Store(true)
	for range 4 * runtime.NumCPU() {
		go func() {
			for n := 0; !stop.Load(); n++ {
			}
		}()
	}
	looks := 0
	for began, port := time.Now(), uint16(5001); time.Since(began) < 30*time.Second; port++ {
		transfer(t, boxes[0], boxes[1], at[1].Addr(), port, 0).wait(t)
		for _, h := range l.Hosts {
			state, c, err := tunnel(h)
			if err != nil || c.State != "ok" || state != "ok" {
				t.Fatalf("%s: %s: %+v, %v", h.Name, state, c, err)
			}
			looks++
		}
	}
	t.Logf("%d looks", looks)
}
