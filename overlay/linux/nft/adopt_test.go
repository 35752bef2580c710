package nft

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/overlay"
)

// An agent that starts again writes nothing where its tables are as they should
// be, whatever it was told in between; to the one before it, it is a stranger.
func TestRestartedAgentAdopts(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	l.put(t, want...)
	ctx, cancel := context.WithCancel(t.Context())
	signals := make(chan struct{}, 1000)
	done := make(chan error, 1)
	go func() { done <- l.nft.Watch(ctx, func() { signals <- struct{}{} }) }()
	for _, table := range [][2]string{{l.host, "inet weft"}, {l.fabric, "bridge weft"}} {
		for len(signals) == 0 { // until the subscription stands
			sh(t, "ip netns exec %s nft 'add chain %s tmp; delete chain %[2]s tmp'", table[0], table[1])
			time.Sleep(50 * time.Millisecond)
		}
		drain(signals)
	}

	before := handles(t, l.host) + handles(t, l.fabric)
	second := openLabTables(t, l.host, l.fabric)
	got, err := second.List(t.Context())
	must(t, err)
	for _, o := range want {
		if o.Rank() == overlay.RankElement && !slices.Contains(got, o) {
			t.Errorf("not listed before the first put: %s", o)
		}
	}
	must(t, second.Put(t.Context(), tablesAsObjects(want)...))
	got, err = second.List(t.Context())
	must(t, err)
	same(t, want, got)
	if diff := gocmp.Diff(before, handles(t, l.host)+handles(t, l.fabric)); diff != "" {
		t.Errorf("not adopted as it was (-before +after):\n%s", diff)
	}
	select {
	case <-signals:
		t.Error("the kernel was changed")
	case <-time.After(100 * time.Millisecond):
	}
	cancel()
	must(t, <-done)
}

// What was changed while no agent ran is put right by the next one.
func TestRestartedAgentRepairs(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	for i, edit := range []string{
		"insert rule inet weft in_raw accept",
		"add chain inet weft forward { policy drop; }",
		"flush chain inet weft tunnel",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			l.put(t, want...)
			sh(t, "ip netns exec %s nft '%s'", l.host, edit)
			second := openLabTables(t, l.host, l.fabric)
			must(t, second.Put(t.Context(), tablesAsObjects(want)...))
			got, err := second.List(t.Context())
			must(t, err)
			same(t, want, got)
		})
	}
}
