package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
)

// Streams keep a host alive whose gossip datagrams are dropped. Its own status says
// which way they are lost, and so does that of the others.
func TestLostDatagramsAreSaid(t *testing.T) {
	t.Parallel()
	l := agenttest.NewCluster(t, agenttest.Config{})
	one, three := l.Host(1), l.Host(3)
	says := func(h *agenttest.Host, code int, want string) {
		t.Helper()
		took := agenttest.Eventually(t, 45*time.Second, h.Name+" says "+want, func() error {
			if r := h.Ctl("status"); r.Code != code || !strings.Contains(r.Stdout, want) {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
		t.Logf("%s after %v: %s", h.Name, took, want)
	}
	three.NS.Must(t, "nft", "add table ip wall; add chain ip wall in { type filter hook input priority 0; }; "+
		"add chain ip wall out { type filter hook output priority 0; }")
	for _, way := range []struct{ rule, atThree, atOne string }{
		{"add rule ip wall in udp dport 4798 drop", "no datagram of the members reaches udp port 4798 of this host (h3)", "do not reach udp port 4798 of h3"},
		{"add rule ip wall out udp dport 4798 drop", "datagrams of this host (h3) reach udp port 4798 of no member", "no datagrams come to udp port 4798 from h3"},
	} {
		three.NS.Must(t, "nft", way.rule)
		says(three, 1, way.atThree)
		says(one, 1, way.atOne)
		three.NS.Must(t, "nft", "flush chain ip wall in; flush chain ip wall out")
		says(three, 0, "udp port 4798 passes")
		says(one, 0, "udp port 4798 passes")
	}
}

func TestJoinNamesTheEndThatDropsDatagrams(t *testing.T) {
	t.Parallel()
	l := agenttest.NewLab(t, agenttest.Config{Hosts: 2})
	one, two := l.Host(1), l.Host(2)
	for _, h := range l.Hosts {
		h.Start()
		h.NS.Must(t, "nft", "add table ip wall; add chain ip wall in { type filter hook input priority 0; }")
	}
	one.Init()
	for _, h := range []*agenttest.Host{two, one} {
		h.NS.Must(t, "nft", "add rule ip wall in udp dport 4798 drop")
		r := two.Ctl("join", one.Addr.String(), "--token-file", one.TokenFile())
		agenttest.WantError(t, r, 1)
		if !strings.Contains(r.Stderr, "gossip port 4798/udp of "+h.Addr.String()+" is unreachable from ") {
			t.Errorf("%s drops: %s", h.Name, r)
		}
		h.NS.Must(t, "nft", "flush chain ip wall in")
		// Left to the failure detector, the host of this try would keep the tunnel
		// address from the next one for some 13 seconds.
		agenttest.Eventually(t, 5*time.Second, one.Name+" forgets the host whose join failed", func() error {
			if all := one.Members(); len(all) != 1 {
				return fmt.Errorf("members: %v", all)
			}
			return nil
		})
	}
	two.Join(one)
}
