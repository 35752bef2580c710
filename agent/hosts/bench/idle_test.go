package bench_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// ticks are those of /proc/PID/stat (proc_pid_stat(5)) in a second.
const ticks = 100

// What an agent of a cluster of twenty hosts takes while nothing happens: one endpoint
// on each, and the tunnel proven between all.
func BenchmarkIdleAmongTwentyHosts(b *testing.B) {
	const hosts, watched = 20, time.Minute
	l := agenttest.NewCluster(b, agenttest.Config{Hosts: hosts})
	l.Host(1).CreateNetwork("blue")
	for _, h := range l.Hosts {
		h.Endpoint("blue", "on-"+h.Name)
	}
	for _, h := range l.Hosts {
		agenttest.Eventually(b, 2*time.Minute, h.Name+" is ok", func() error {
			if r := h.Ctl("status"); r.Code != 0 || !strings.Contains(r.Stdout, fmt.Sprintf("proven to %d of %d", hosts-1, hosts-1)) {
				return errors.New(r.Stdout)
			}
			return nil
		})
	}
	before := make([]float64, hosts)
	for i, h := range l.Hosts {
		before[i] = processorTime(b, h)
	}
	start := time.Now()
	time.Sleep(watched)
	var total, most, memory float64
	for i, h := range l.Hosts {
		share := (processorTime(b, h) - before[i]) / time.Since(start).Seconds() * 100
		total, most, memory = total+share, max(most, share), max(memory, residentMemory(b, h))
	}
	b.Logf("%d agents for %s: %.2f %% of a core each, %.2f the one that took most; at most %.1f MiB resident", hosts, watched, total/hosts, most, memory)
	b.ReportMetric(total/hosts, "%core")
	b.ReportMetric(memory, "MiB")
}

// processorTime is what an agent has taken, in seconds.
func processorTime(b *testing.B, h *agenttest.Host) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID()))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
	sum := 0
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return float64(sum) / ticks
}
