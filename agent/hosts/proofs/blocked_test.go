package proofs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// bound is how long it may take until a blocked tunnel shows, and until it shows that
// it works again.
const bound = 15 * time.Second

// blockings are rules that block the tunnel between h1 and h2, and what both say.
var blockings = []struct {
	name  string
	where func(l *agenttest.Lab) agenttest.Netns
	rule  string
	says  string
	hint  string
}{
	{"the sender does not let it out", func(l *agenttest.Lab) agenttest.Netns { return l.Host(1).NS },
		"add rule inet wall out udp dport 4799 ip daddr 192.0.2.2 drop",
		"4799/udp is blocked from h1 to h2: h1 does not let it out", "nft list ruleset # on h1"},
	{"the receiver does not let it in", func(l *agenttest.Lab) agenttest.Netns { return l.Host(2).NS },
		"add rule inet wall in udp dport 4799 ip saddr 192.0.2.1 drop",
		"4799/udp is blocked from h1 to h2: h2 does not let it in", "nft list ruleset # on h2"},
	{"it is lost on the way", func(l *agenttest.Lab) agenttest.Netns { return l.Switch },
		"add rule bridge wall way ip saddr 192.0.2.1 ip daddr 192.0.2.2 udp dport 4799 drop",
		"4799/udp is blocked from h1 to h2: it leaves h1 and does not come to h2", "tcpdump -ni any udp port 4799"},
	{"both ways", func(l *agenttest.Lab) agenttest.Netns { return l.Switch },
		"add rule bridge wall way ip saddr { 192.0.2.1, 192.0.2.2 } ip daddr { 192.0.2.1, 192.0.2.2 } udp dport 4799 drop",
		"does not come to", "tcpdump -ni any udp port 4799"},
}

// wall is a packet filter that lets everything pass.
const wall = `add table inet wall
add chain inet wall in { type filter hook input priority 0; }
add chain inet wall out { type filter hook output priority 0; }
add table bridge wall
add chain bridge wall way { type filter hook forward priority 0; }`

func TestBlockedTunnelIsNamedByBothEnds(t *testing.T) {
	t.Parallel()
	l, _, _ := shared(t, agenttest.Config{Hosts: 3})
	for _, b := range blockings {
		ns := b.where(l)
		ns.Must(t, "nft", wall)
		ns.Must(t, "nft", b.rule)
		began := time.Now()
		for _, h := range l.Hosts[:2] {
			c := await(t, h, bound-time.Since(began), "fail", b.says)
			if !strings.Contains(c.Hint, b.hint) {
				t.Errorf("%s: %s: hint %q, want %q", b.name, h.Name, c.Hint, b.hint)
			}
			if r := h.Ctl("status"); r.Code != 1 || !strings.HasPrefix(r.Stdout, h.Name+": degraded") {
				t.Errorf("%s: %s", b.name, r)
			}
			if out := h.MustCtl("members"); strings.Count(out, "failing") != 1 {
				t.Errorf("%s: members of %s:\n%s", b.name, h.Name, out)
			}
		}
		if _, c, err := tunnel(l.Host(3)); err != nil || c.State != "ok" {
			t.Errorf("%s: h3 has nothing to do with it: %+v, %v", b.name, c, err)
		}
		ns.Must(t, "nft", "delete table inet wall; delete table bridge wall")
		began = time.Now()
		for _, h := range l.Hosts[:2] {
			await(t, h, bound-time.Since(began), "ok", "proven to 2 of 2 members")
		}
	}
}
