package gossip

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
)

// A host whose datagrams are dropped stays alive, since streams reach it. Both ends
// say so, and the cut host knows that it is the one.
func TestMembersSeeThatDatagramsAreLost(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	nodes := cluster(t, 3, withTune(func(g *Gossip, _ *memberlist.Config) {
		g.trans.cut = func(network string, peer netip.Addr) bool {
			return network == "udp" && cut.Load() && g.cfg.Self == testID(2) && peer != g.trans.addr.Addr()
		}
	}))
	cut.Store(true)
	took := eventually(t, 30*time.Second, "the losses", func() error {
		for i, want := range [][]Loss{{{Member: testID(2)}}, {{Member: testID(2)}}} {
			if got := nodes[i].Losses(); len(got) != 1 || got[0].Member != want[0].Member || got[0].All {
				return fmt.Errorf("at %d: got %+v, want %+v", i, got, want)
			}
		}
		if got := nodes[2].Losses(); len(got) != 2 || !got[0].All {
			return fmt.Errorf("at the cut host: got %+v, want both members", got)
		}
		return nil
	})
	t.Logf("seen after %v", took)
	cut.Store(false)
	eventually(t, 15*time.Second, "no losses", func() error {
		for _, n := range nodes {
			if got := n.Losses(); len(got) > 0 {
				return fmt.Errorf("%s: %+v", n.cfg.Name, got)
			}
		}
		return nil
	})
}

func TestPathsTellTheDirection(t *testing.T) {
	start := time.Now()
	members := make([]discovery.Member, 5)
	for i := range members {
		members[i] = discovery.Member{ID: testID(i), Status: discovery.StatusAlive, Gossip: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:4798", i+1))}
	}
	members[4].Status = discovery.StatusDead // is no evidence
	p := newPaths(time.Second)
	p.members = func() []discovery.Member { return append([]discovery.Member(nil), members...) }
	deaf := map[discovery.HostID]bool{testID(0): true, testID(1): true, testID(4): true}
	p.ask = func(id discovery.HostID, _ netip.AddrPort) bool { return !deaf[id] }
	p.look(start)
	if len(p.losses) > 0 {
		t.Errorf("members that have just come: %+v", p.losses)
	}
	late := start.Add(p.limit(4) + time.Second)
	p.passed(testID(2), late)
	p.arrived(netip.MustParseAddr("192.0.2.1"), late)
	p.stream = func(id discovery.HostID, _ netip.AddrPort) bool { return true }
	if p.look(late); len(p.losses) > 0 {
		t.Errorf("after one look: %+v", p.losses)
	}
	p.look(late)
	if len(p.losses) != 2 {
		t.Fatalf("got %+v, want two members that do not answer", p.losses)
	}
	for _, l := range p.losses {
		if l.All || l.Heard != (l.Member == testID(0)) {
			t.Errorf("got %+v: of host 0 alone datagrams arrive here", l)
		}
	}
	p.passed(testID(0), late)
	if len(p.losses) != 1 || p.losses[0].Member != testID(1) {
		t.Errorf("got %+v, want host 1 only", p.losses)
	}
}

// An agent that gets no time of its processor answers nothing at once: not a datagram,
// and no stream either. That is no loss of datagrams, however long it lasts.
func TestABusyMemberIsNoLoss(t *testing.T) {
	start := time.Now()
	m := discovery.Member{ID: testID(1), Status: discovery.StatusAlive, Gossip: netip.MustParseAddrPort("192.0.2.2:4798")}
	p := newPaths(time.Second)
	p.members = func() []discovery.Member { return []discovery.Member{m} }
	p.quick = time.Hour
	answers, streams := false, 0
	slow := true
	p.ask = func(discovery.HostID, netip.AddrPort) bool { return answers }
	p.stream = func(discovery.HostID, netip.AddrPort) bool {
		if streams++; slow {
			p.quick = 0 // whatever it took
		} else {
			p.quick = time.Hour
		}
		return true
	}
	p.look(start)
	late := start.Add(p.limit(1) + time.Second)
	for range 3 {
		if p.look(late); len(p.losses) > 0 {
			t.Fatalf("busy, and called lost: %+v", p.losses)
		}
	}
	if streams == 0 {
		t.Error("it was asked by no stream")
	}
	slow = false
	if p.look(late); len(p.losses) != 1 {
		t.Fatalf("it is not busy any more, and datagrams do not pass: %+v", p.losses)
	}
	slow = true // what was said is not taken back because it is busy
	if p.look(late); len(p.losses) != 1 {
		t.Errorf("taken back: %+v", p.losses)
	}
	answers = true
	if p.look(late); len(p.losses) != 0 {
		t.Errorf("it answers: %+v", p.losses)
	}
}
