package soak_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// fault is something that happens to a host, and how soon it must be as before: its
// canary reaches the others then.
type fault struct {
	name   string
	within time.Duration
	// agent: the fault is the agent's alone, and no packet of the host may be lost.
	agent bool
	do    func(s *soak, h *agenttest.Host)
}

var faults = slices.Concat(agents, newcomers, refusals, kernels, neighbours)

// agents are faults of an agent, the store and the wire between hosts.
var agents = []fault{
	{"kill -9 of the agent", 30 * time.Second, true, func(_ *soak, h *agenttest.Host) { h.Kill(); h.Start() }},
	{"restart of the agent", 30 * time.Second, true, func(_ *soak, h *agenttest.Host) { h.Stop(); h.Start() }},
	{"agent frozen for 3 s", 30 * time.Second, true, frozen},
	{"Consul away for 3 s", 60 * time.Second, true, consulAway},
	{"a garbled view.db", 30 * time.Second, true, garbledView},
	{"no view.db", 30 * time.Second, true, func(_ *soak, h *agenttest.Host) {
		h.Kill()
		os.Remove(filepath.Join(h.Dir, "data", "view.db"))
		h.Start()
	}},
	{"gossip's datagrams dropped for 5 s", 60 * time.Second, true, datagramsDropped},
	{"gossip loses 20 % of datagrams, 5 % of streams for 10 s", 60 * time.Second, true, lossy},
	{"a reload of a key that needs a restart", 30 * time.Second, true, reloaded},
	{"cable pulled for 3 s", 60 * time.Second, false, func(s *soak, h *agenttest.Host) {
		s.l.Cut(h)
		pause(3 * time.Second)
		s.l.Heal(h)
	}},
}

func frozen(s *soak, h *agenttest.Host) {
	s.check(syscall.Kill(h.PID(), syscall.SIGSTOP))
	pause(3 * time.Second)
	s.check(syscall.Kill(h.PID(), syscall.SIGCONT))
}

func consulAway(s *soak, _ *agenttest.Host) {
	s.l.StopConsul()
	pause(3 * time.Second)
	s.l.StartConsul()
}

func garbledView(s *soak, h *agenttest.Host) {
	h.Kill()
	path := filepath.Join(h.Dir, "data", "view.db")
	b, err := os.ReadFile(path)
	s.check(err)
	for i := len(b) / 2; i < min(len(b)/2+4096, len(b)); i++ {
		b[i] = 0xff
	}
	s.check(os.WriteFile(path, b, 0o600))
	h.Start()
}

func datagramsDropped(s *soak, h *agenttest.Host) {
	s.filtered(h, 5*time.Second, "udp dport 4798 drop")
}

// lossy is a bad wire: what has to be asked of others still comes soon.
func lossy(s *soak, h *agenttest.Host) {
	s.filtered(h, 10*time.Second, "udp dport 4798 numgen random mod 100 < 20 drop", "tcp dport 4798 numgen random mod 100 < 5 drop")
}

// filtered lets the host's packets meet rules for a while.
func (s *soak) filtered(h *agenttest.Host, lasts time.Duration, rules ...string) {
	s.must(h, "nft 'add table inet soak { chain input { type filter hook input priority 0; "+strings.Join(rules, "; ")+"; }; }'")
	pause(lasts)
	s.must(h, "nft delete table inet soak")
}

// reloaded asks for what a reload cannot do, in front of systemd's reload and by it.
func reloaded(s *soak, h *agenttest.Host) {
	file := filepath.Join(h.Dir, "changed.yaml")
	s.check(os.WriteFile(file, []byte("run_dir: "+filepath.Join(h.Dir, "run")+"\ngossip_port: 5000\n"), 0o600))
	r := agenttest.Run("", h.Agentd("config", "check", "--running", file)...)
	if r.Code != 1 || !strings.Contains(r.Stderr, "gossip_port") || !strings.Contains(r.Stderr, "hint: systemctl restart agentd") {
		s.t.Errorf("%s: %s", h.Name, r)
	}
	s.check(syscall.Kill(h.PID(), syscall.SIGHUP))
}

// pause lets a fault last.
func pause(d time.Duration) { <-time.After(d) }
