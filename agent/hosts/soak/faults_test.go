package soak_test

import (
	"fmt"
	"os"
	"path/filepath"
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

// repaired is how soon another program's change of the kernel is undone: three times what
// holds on a quiet machine.
const repaired = 6 * time.Second

var faults = []fault{
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
	{"cable pulled for 3 s", 60 * time.Second, false, func(s *soak, h *agenttest.Host) {
		s.l.Cut(h)
		pause(3 * time.Second)
		s.l.Heal(h)
	}},
	kernel("a port blocked", `bridge -n $F link set dev $K state 0`, `bridge -n $F link show dev $K | grep -q forwarding`),
	kernel("hairpin", `bridge -n $F link set dev $K hairpin on`, `bridge -n $F -d link show dev $K | grep -q 'hairpin off'`),
	kernel("root guard", `bridge -n $F link set dev $K root_block on`, `bridge -n $F -d link show dev $K | grep -q 'root_block off'`),
	kernel("ARP off", `ip -n $F link set $K arp off`, `! ip -n $F link show $K | grep -q NOARP`),
	kernel("STP", `ip -n $F link set $B type bridge stp_state 1`, `ip -n $F -d link show $B | grep -q 'stp_state 0'`),
	kernel("bridge down", `ip -n $F link set $B down`, `ip -n $F link show $B | grep -q ,UP`),
	kernel("tunnel device deleted", `ip -n $F link del $V`, `ip -n $F link show $V | grep -q "master $B"`),
	kernel("gateway's address deleted", `ip addr flush dev $G`, `ip -4 addr show dev $G | grep -q inet`),
	kernel("gateway's forwarding off", `sysctl -qw net.ipv4.conf.$G.forwarding=0`, `[ $(sysctl -n net.ipv4.conf.$G.forwarding) = 1 ]`),
	kernel("uplink's forwarding off", `sysctl -qw net.ipv4.conf.eth0.forwarding=0`, `[ $(sysctl -n net.ipv4.conf.eth0.forwarding) = 1 ]`),
	kernel("FDB flushed", `bridge -n $F fdb flush dev $V`, `bridge -n $F fdb show dev $V | grep -q dst`),
	kernel("neighbours flushed", `ip -n $F neigh flush dev $V nud permanent`, `ip -n $F neigh show dev $V nud permanent | grep -q lladdr`),
	kernel("rules deleted", `nft delete table inet weft`, `nft list table inet weft | grep -q masquerade`),
	kernel("the bridge's rules deleted", `ip netns exec $F nft delete table bridge weft`, `ip netns exec $F nft list table bridge weft | grep -q ports4`),
}

// kernel is what another program does to the kernel of a host, as it types it: $F is the
// fabric, $B, $V and $G are the devices of the network, $K is the port of the canary.
func kernel(name, breaks, healed string) fault {
	return fault{name, repaired, false, func(s *soak, h *agenttest.Host) {
		s.must(h, breaks)
		s.await(repaired, h.Name+": "+name, func() error {
			if r := s.shell(h, healed); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}}
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
	s.must(h, `nft -f - <<-EOF
		table inet soak {
			chain input {
				type filter hook input priority 0;
				udp dport 4798 drop
			}
		}
		EOF`)
	pause(5 * time.Second)
	s.must(h, `nft delete table inet soak`)
}

// pause lets a fault last.
func pause(d time.Duration) { <-time.After(d) }
