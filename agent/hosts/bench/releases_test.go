package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// oldEnv names a directory with the programs of an older release: make bench OLD=DIR.
const oldEnv = "WEFT_BENCH_OLD"

// releases measures the same with the agent of an older release and with this one, each
// in a lab of its own.
func releases(b *testing.B, what string, rounds, hosts int, side func(l *agenttest.Lab) (measure func() float64)) {
	old := os.Getenv(oldEnv)
	if old == "" {
		b.Skip("no older release to compare with: make bench OLD=DIR")
	}
	var sides []*agenttest.Side
	for _, release := range []struct{ name, programs string }{{"this", ""}, {"old", old}} {
		l := agenttest.NewLab(b, agenttest.Config{Hosts: hosts, Programs: release.programs})
		sides = append(sides, &agenttest.Side{Name: release.name, Measure: side(l)})
	}
	for range b.N {
		agenttest.Interleave(max(rounds, agenttest.Pairs(b)), sides...)
	}
	b.Log("\n" + agenttest.Table(what, "ms", []agenttest.Bound{{Against: "old", Ratio: 1.05}}, sides...))
}

// A container that does nothing, from the command to its end, beside an engine of its
// own.
func BenchmarkDockerRunOfReleases(b *testing.B) {
	releases(b, "docker run --rm", 40, 1, func(l *agenttest.Lab) func() float64 {
		h := l.Host(1)
		e := h.NewEngine()
		h.More = append(h.More, "--dns-resolv-conf", filepath.Join(e.Dir, "resolv.conf"))
		h.Start()
		h.Init()
		e.Start()
		h.CreateNetwork("weft")
		agenttest.Eventually(b, 10*time.Second, "the network in Docker", func() error {
			if r := e.Docker("network", "inspect", "weft"); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		e.Detached("stays", "--network", "weft")
		return func() float64 {
			start := time.Now()
			e.Must("run", "--rm", "--network", "weft", agenttest.Image, "true")
			return milliseconds(time.Since(start))
		}
	})
}

// An attach with two other hosts that are told.
func BenchmarkAttachOfReleases(b *testing.B) {
	releases(b, "attach", 100, 3, func(l *agenttest.Lab) func() float64 {
		for _, h := range l.Hosts {
			h.Start()
		}
		l.Host(1).Init()
		for _, h := range l.Hosts[1:] {
			h.Join(l.Host(1))
		}
		h := l.Host(1)
		h.CreateNetwork("blue")
		guest := h.Sandbox("guest")
		return func() float64 {
			start := time.Now()
			guest.Attach("blue", "guest")
			took := time.Since(start)
			guest.Detach("blue", "guest")
			return milliseconds(took)
		}
	})
}
