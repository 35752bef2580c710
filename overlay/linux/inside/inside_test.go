package inside_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/inside"
	"github.com/weft-net/weft/overlay/linux/netns"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("192.0.2.2")
)

// ends are two namespaces with one link between them.
type ends struct{ t *testing.T }

func (ends) path(of string) string { return fmt.Sprintf("/run/netns/weft-t-%d-%s", os.Getpid(), of) }

func (e ends) sh(line string) {
	e.t.Helper()
	line = strings.NewReplacer("NS1", fmt.Sprintf("weft-t-%d-1", os.Getpid()), "NS2", fmt.Sprintf("weft-t-%d-2", os.Getpid())).Replace(line)
	if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
		e.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

func newEnds(t *testing.T) ends {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	e := ends{t}
	e.sh("ip netns add NS1; ip netns add NS2")
	t.Cleanup(func() { e.sh("ip netns del NS1; ip netns del NS2") })
	e.sh("ip -n NS1 link add eth0 type veth peer name eth0 netns NS2")
	for _, n := range []string{"1", "2"} {
		e.sh(strings.ReplaceAll("ip -n NS# addr add 192.0.2.#/24 dev eth0; ip -n NS# link set eth0 up; ip -n NS# link set lo up", "#", n))
	}
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // until both ends have a carrier
		in, err := inside.Look(e.path("2"), crossing("tcp", 80), true)
		if l, ok := in.LinkOf(there); ok && l.Up && err == nil {
			return e
		}
		if time.Now().After(late) {
			t.Fatalf("%+v, %v", in, err)
		}
	}
}

// listen opens a socket in the second namespace.
func (e ends) listen(proto string, port int) {
	e.t.Helper()
	ns, err := netns.Open(e.path("2"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer ns.Close()
	address := fmt.Sprintf("192.0.2.2:%d", port)
	err = netns.Within(ns, func() error {
		if proto == "tcp" {
			l, err := net.Listen("tcp4", address)
			if err == nil {
				e.t.Cleanup(func() { l.Close() })
			}
			return err
		}
		c, err := net.ListenPacket("udp4", address)
		if err != nil {
			return err
		}
		e.t.Cleanup(func() { c.Close() })
		go func() {
			for {
				_, from, err := c.ReadFrom(make([]byte, 8))
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte("x"), from)
			}
		}()
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func crossing(proto string, port uint16) overlay.Crossing {
	return overlay.Crossing{Src: here, Dst: there, Proto: proto, Port: port}
}

func TestTryTellsWhatTheWayDoes(t *testing.T) {
	e := newEnds(t)
	e.listen("tcp", 80)
	e.listen("udp", 53)
	for _, c := range []struct {
		damage, repair string
		try            overlay.Crossing
		want           overlay.Trial
	}{
		{"", "", crossing("tcp", 80), overlay.TrialAnswered},
		{"", "", crossing("udp", 53), overlay.TrialAnswered},
		{"", "", crossing("icmp", 0), overlay.TrialAnswered},
		{"", "", crossing("tcp", 81), overlay.TrialRefused},
		{"", "", crossing("udp", 54), overlay.TrialRefused},
		{"ip netns exec NS2 nft 'add table ip w; add chain ip w in { type filter hook input priority 0; policy drop; }'", "ip netns exec NS2 nft delete table ip w", crossing("tcp", 80), overlay.TrialSilent},
		{"ip netns exec NS2 nft 'add table ip w; add chain ip w in { type filter hook input priority 0; }; add rule ip w in tcp dport 80 reject with icmp admin-prohibited'", "ip netns exec NS2 nft delete table ip w", crossing("tcp", 80), overlay.TrialNoRoute},
		{"ip -n NS1 route del 192.0.2.0/24", "ip -n NS1 route add 192.0.2.0/24 dev eth0", crossing("icmp", 0), overlay.TrialNoRoute},
	} {
		if c.damage != "" {
			e.sh(c.damage)
		}
		ctx, cancel := context.WithTimeout(t.Context(), map[bool]time.Duration{true: time.Second, false: 20 * time.Second}[c.want == overlay.TrialSilent])
		got, _, err := inside.Try(ctx, e.path("1"), c.try)
		cancel()
		if got != c.want || err != nil {
			t.Errorf("%s: %+v: %s, %v, want %s", c.damage, c.try, got, err, c.want)
		}
		if c.repair != "" {
			e.sh(c.repair)
		}
	}
}

func TestLookSeesWhatAProgramThereWould(t *testing.T) {
	e := newEnds(t)
	e.listen("tcp", 80)
	in, err := inside.Look(e.path("2"), crossing("tcp", 80), true)
	if err != nil {
		t.Fatal(err)
	}
	if l, ok := in.LinkOf(there); !ok || l.Name != "eth0" || !l.Up || l.MTU != 1500 {
		t.Errorf("the link: %+v", in.Links)
	}
	if !in.Hears(there, 80) || in.Hears(there, 81) || in.Hears(here, 80) {
		t.Errorf("who listens: %v", in.Ears)
	}
	if in.Way.Dev != "eth0" || in.Way.Err != "" || len(in.Drops) > 0 {
		t.Errorf("%+v, %+v", in.Way, in.Drops)
	}
	e.sh("ip -n NS2 neigh replace 192.0.2.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
	for range 20 { // what the library leaves in its request is chance
		in, err := inside.Look(e.path("2"), crossing("tcp", 80), true)
		if want := (overlay.MAC{2, 0, 0, 0, 0, 0x99}); err != nil || in.Way.Hop != want || in.Way.Src != there {
			t.Fatalf("%+v, %v", in.Way, err)
		}
	}
	e.sh("ip -n NS2 link set eth0 down")
	if in, err := inside.Look(e.path("2"), crossing("tcp", 80), true); err != nil || in.Way.Err == "" || in.Links[len(in.Links)-1].Up {
		t.Errorf("%+v, %v", in, err)
	}
}

// A chain is named when it drops what is asked about, and not when it drops something else.
func TestLookNamesTheChainThatDrops(t *testing.T) {
	e := newEnds(t)
	const base = "ip netns exec NS2 nft -f - <<'END'\ntable inet w {\nchain c { type filter hook HOOK priority 0; policy POLICY; RULE; }\n}\nEND"
	for _, c := range []struct {
		hook, policy, rule string
		arrives            bool
		want               string
	}{
		{"input", "drop", "ct state established accept", true, "inet w c input false"},
		{"input", "accept", "tcp dport 80 drop", true, "inet w c input false"},
		{"input", "accept", "tcp dport 81 drop", true, ""},
		{"input", "accept", "udp dport 80 drop", true, ""},
		{"input", "accept", "ip saddr 192.0.2.1 drop", true, "inet w c input false"},
		{"input", "accept", "ip saddr 192.0.2.9 drop", true, ""},
		{"input", "drop", "tcp dport { 80, 443 } accept", true, ""},
		{"prerouting", "accept", "tcp dport 80 reject with tcp reset", true, "inet w c prerouting false"},
		{"output", "drop", "", true, "inet w c output true"},
		{"output", "drop", "ct state established accept", true, ""},
		{"output", "drop", "", false, "inet w c output false"},
		{"input", "drop", "", false, "inet w c input true"},
		{"input", "accept", "iifname \"eth0\" drop", true, "inet w c input false"},
		{"input", "accept", "iifname \"eth9\" drop", true, ""},
		{"output", "accept", "oifname \"eth0\" drop", false, "inet w c output false"},
		{"input", "accept", "icmp type echo-request drop", true, ""},
	} {
		e.sh(strings.NewReplacer("HOOK", c.hook, "POLICY", c.policy, "RULE", c.rule).Replace(base))
		q := crossing("tcp", 80)
		if !c.arrives {
			q.Src, q.Dst = there, here
		}
		in, err := inside.Look(e.path("2"), q, c.arrives)
		got := ""
		for _, d := range in.Drops {
			got += fmt.Sprintf("%s %s %v", d.String(), d.Hook, d.Answer)
		}
		if got != c.want || err != nil {
			t.Errorf("%s %s %q: %q, %v, want %q", c.hook, c.policy, c.rule, got, err, c.want)
		}
		e.sh("ip netns exec NS2 nft delete table inet w")
	}
}
