package agenttest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Intrusion is what an intruder aims at: an endpoint of another host, on a network.
type Intrusion struct {
	Network string // id
	Gateway netip.Addr
	Victim  netip.Addr
	MAC     string     // of the victim
	Free    netip.Addr // an address of the network that nobody has
}

// Intruder is a program that took the place of a host's agent. It has what is on the
// host's disk, keys included, and says what no agent would.
type Intruder struct{ p *process }

// Intrude starts an intruder in the place of the host's agent, which was stopped. It
// ends with the test.
func (h *Host) Intrude(what Intrusion, peers ...*Host) *Intruder {
	t := h.lab.t
	t.Helper()
	program := filepath.Join(h.lab.Dir, "intruder")
	if _, err := os.Stat(program); err != nil {
		must(t, "go", "test", "-c", "-o", program, "github.com/weft-net/weft/discovery/gossip")
	}
	var at []string
	for _, p := range peers {
		at = append(at, p.Addr.String()+":4798")
	}
	order, err := json.Marshal(map[string]any{"Dir": filepath.Join(h.Dir, "data"), "At": h.Addr.String() + ":4798", "Peers": at,
		"Network": what.Network, "Gateway": what.Gateway, "Victim": what.Victim, "MAC": what.MAC, "Free": what.Free})
	if err != nil {
		t.Fatal(err)
	}
	i := &Intruder{start(t, filepath.Join(h.Dir, "intruder.log"), []string{"WEFT_HOSTILE=" + string(order)},
		h.NS.Enter(program, "-test.run", "^TestHostileMember$", "-test.timeout", "0", "-test.v")...)}
	t.Cleanup(i.Stop)
	return i
}

// Stop ends the intruder; nothing happens when it has ended.
func (i *Intruder) Stop() { _ = i.p.signal(syscall.SIGTERM) }

// Running reports whether it goes on, and what it wrote if not.
func (i *Intruder) Running() (bool, string) { return i.p.running(), tail(i.p.log, 20) }

// Memory is what the agent has in memory (VmRSS), in bytes.
func (h *Host) Memory() int {
	h.lab.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	if err != nil {
		h.lab.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")))
			if err != nil {
				h.lab.t.Fatal(err)
			}
			return n << 10
		}
	}
	h.lab.t.Fatal("no VmRSS of the agent")
	return 0
}
