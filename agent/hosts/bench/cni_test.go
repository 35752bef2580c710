package bench_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// What a runtime waits for, with our plugin and with Debian's bridge and
// host-local: from the start of the plugin to its end. Ours leases on the disk,
// announces the name and, on the way back, has forgotten both when it returns;
// the interface goes a few milliseconds later.
func BenchmarkCNIAdd(b *testing.B) { compareCNI(b, "ADD") }

func BenchmarkCNIDel(b *testing.B) { compareCNI(b, "DEL") }

// compareCNI calls ADD and DEL in turn and measures one of them.
func compareCNI(b *testing.B, measured string) {
	agenttest.Need(b, "/usr/lib/cni/bridge", "/usr/lib/cni/host-local")
	l := agenttest.NewCluster(b, agenttest.Config{})
	h := l.Host(1)
	h.CreateNetwork("blue")
	l.Observers("blue")
	rest := h.Sandbox("rest")
	bridge := newCNI(b, h, h.Sandbox("cni"))
	ours := cniPlugin{b: b, host: h, sandbox: h.Sandbox("guest"), path: filepath.Join(h.Plugins(), "weft"),
		config: fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "blue", "type": "weft", "socket": %q}`, h.Socket())}
	side := func(name string, p cniPlugin) *agenttest.Side {
		return &agenttest.Side{Name: name, Measure: func() float64 {
			took := map[string]time.Duration{"ADD": p.call("ADD")}
			took["DEL"] = p.call("DEL")
			// Ours removes the interface in the background, which is not to slow
			// what is measured next: another detach waits for it.
			rest.Attach("blue", "rest")
			rest.Detach("blue", "rest")
			return milliseconds(took[measured])
		}}
	}
	weft, debian := side("weft-cni", ours), side("bridge + host-local", bridge)
	for range b.N {
		agenttest.Interleave(4*agenttest.Pairs(b), weft, debian)
	}
	b.Log("\n" + agenttest.Table("CNI "+measured, "ms", []agenttest.Bound{{Against: debian.Name, Ratio: 1}}, weft, debian))
}
