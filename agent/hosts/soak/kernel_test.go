package soak_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Three times what holds on a quiet machine: how soon another program's change of the
// kernel is undone, and how soon status names what is not weft's to undo.
const (
	repaired = 6 * time.Second
	noticed  = 30 * time.Second
	healthy  = 30 * time.Second // all of status, once the change itself is undone
)

// kernels are what other programs do to the objects of weft, as a user types it: $F is
// the fabric, $B, $V and $G are the devices of the network, $K is the port of the canary,
// $S the canary's sandbox.
var kernels = []fault{
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
	kernel("a fabric that is not mounted", `umount -l /run/netns/$F`, `ip -n $F link show $V`).ofAgent(),
	kernel("tunnel device deleted under a foreign route", `ip route replace $N via 192.0.2.254; ip -n $F link del $V`,
		`ip -n $F link show $V | grep -q "master $B"`).then(`ip route del $N via 192.0.2.254`),
}

// neighbours are what other programs do beside weft. It cannot be undone by weft: status
// names it, and its hint helps.
var neighbours = []fault{
	named("a VPN's route", "routes", `ip route add $PART via 192.0.2.254`, "$PART via 192.0.2.254 dev eth0", `eval "$HINT"`),
	named("a filter that drops", "filters", `nft add table inet fw '{ chain ahead { type filter hook forward priority 10; policy drop; }; }'`,
		"chain inet fw ahead", `eval "$HINT"; nft delete table inet fw`),
	named("an endpoint without its address", "sandboxes", `ip -n $S addr flush dev eth0`, "canary-", `eval "$HINT"`),
	named("an endpoint without its routes", "sandboxes", `ip -n $S route flush dev eth0`, "canary-", `eval "$HINT"`),
	named("an endpoint that is down", "sandboxes", `ip -n $S link set eth0 down`, "canary-", `eval "$HINT"`),
	named("a stranger in the tunnel device's place", "kernel", `printf 'link del %s\nlink add %s type bridge\n' $V $V | ip -n $F -batch -`,
		"$V", `ip -n $F link del $V`),
	{"a stranger's device with a name like ours", healthy, false, stranger},
}

// kernel is a change that weft undoes.
func kernel(name, breaks, healed string) fault {
	return fault{name, healthy, false, func(s *soak, h *agenttest.Host) {
		s.must(h, breaks)
		s.await(repaired, h.Name+": "+name, func() error {
			if r := s.shell(h, healed); r.Code != 0 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}}
}

// ofAgent is the fault when no packet is lost.
func (f fault) ofAgent() fault {
	f.agent = true
	return f
}

// then is the fault with a line that ends it. What could not be put back meanwhile is
// tried again after a minute at the latest.
func (f fault) then(ends string) fault {
	do := f.do
	f.within = 90 * time.Second
	f.do = func(s *soak, h *agenttest.Host) {
		do(s, h)
		s.must(h, ends)
	}
	return f
}

// named is a change that a check of status names; $HINT is the hint of the check.
func named(name, check, breaks, says, heals string) fault {
	return fault{name, noticed, false, func(s *soak, h *agenttest.Host) {
		s.must(h, breaks)
		says := os.Expand(says, s.words(h))
		var c statusCheck
		s.await(noticed, h.Name+": status names "+name, func() error {
			if c = s.checkOf(h, check); !strings.Contains(c.Detail, says) || c.State == "ok" {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
		s.must(h, heals, "HINT="+c.Hint)
	}}
}

// stranger is a device that carries no mark of ours: nobody touches it.
func stranger(s *soak, h *agenttest.Host) {
	s.must(h, `ip link add g00beef type bridge && ip addr add 10.99.0.1/24 dev g00beef && ip link set g00beef up`)
	pause(5 * time.Second)
	s.must(h, `ip addr show dev g00beef | grep -q 10.99.0.1/24 && ip link del g00beef`)
}

// statusCheck is one line of status.
type statusCheck struct{ Name, State, Detail, Hint string }

func (s *soak) checkOf(h *agenttest.Host, name string) statusCheck {
	var st struct{ Checks []statusCheck }
	r := h.Ctl("status", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		return statusCheck{State: "ok", Detail: r.String()}
	}
	for _, c := range st.Checks {
		if c.Name == name {
			return c
		}
	}
	return statusCheck{State: "ok", Detail: "no such check"}
}

// words are what a line of a fault calls the kernel's objects of a host.
func (s *soak) words(h *agenttest.Host) func(string) string {
	c := s.canary[h.Name]
	return func(name string) string {
		return map[string]string{
			"F": string(h.Fabric), "S": string(c.NS), "N": subnet, "PART": part,
			"B": fmt.Sprintf("b%06x", s.vni), "V": fmt.Sprintf("v%06x", s.vni), "G": fmt.Sprintf("g%06x", s.vni), "K": "k" + c.ID[:12],
			"WEFT_SOCKET": h.Socket(), "PATH": agenttest.Programs(s.t) + ":" + os.Getenv("PATH"),
		}[name]
	}
}

// shell runs a line in the namespace of a host, with the names of the kernel's objects.
func (s *soak) shell(h *agenttest.Host, line string, more ...string) agenttest.Result {
	words := s.words(h)
	env := []string{"env"}
	for _, name := range []string{"F", "S", "N", "PART", "B", "V", "G", "K", "WEFT_SOCKET", "PATH"} {
		env = append(env, name+"="+words(name))
	}
	return h.NS.Run(append(append(env, more...), "sh", "-c", line)...)
}

func (s *soak) must(h *agenttest.Host, line string, more ...string) {
	s.t.Helper()
	if r := s.shell(h, line, more...); r.Code != 0 {
		s.t.Errorf("%s: %s", h.Name, r)
	}
}
