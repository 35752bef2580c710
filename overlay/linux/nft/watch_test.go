package nft

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Somebody else's change is signalled, ours is not: else each repair would
// cause the next look.
func TestWatchSeesOthersOnly(t *testing.T) {
	l := newNFTLab(t)
	want := filterOf(t, stateNamed(t, "one network with a local endpoint"))
	l.put(t, want...)
	ctx, cancel := context.WithCancel(t.Context())
	signals := make(chan struct{}, 1000)
	done := make(chan error, 1)
	go func() { done <- l.nft.Watch(ctx, func() { signals <- struct{}{} }) }()
	signalled := func(within time.Duration, ns, command string) bool {
		t.Helper()
		sh(t, "ip netns exec %s nft '%s'", ns, command)
		select {
		case <-signals:
			drain(signals)
			return true
		case <-time.After(within):
			return false
		}
	}
	for _, table := range [][2]string{{l.host, "inet weft"}, {l.fabric, "bridge weft"}} {
		for !signalled(50*time.Millisecond, table[0], fmt.Sprintf("add chain %s tmp; delete chain %[1]s tmp", table[1])) {
			continue // until the subscription stands
		}
	}

	l.put(t, want...)
	must(t, l.nft.Delete(t.Context(), want...))
	l.put(t, want...)
	if signalled(100*time.Millisecond, l.host, "add table inet other") {
		t.Error("a signal of our own change, or of another table")
	}
	for _, c := range [][2]string{
		{l.host, "add rule inet weft forward accept"},
		{l.fabric, "flush chain bridge weft guard"},
		{l.host, "delete element inet weft vteps { 192.0.2.2 }"},
		{l.host, "flush ruleset"},
	} {
		if !signalled(10*time.Second, c[0], c[1]) {
			t.Errorf("no signal of: nft %s", c[1])
		}
	}
	cancel()
	must(t, <-done)
}

// drain takes signals until there are no more.
func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}
