package gossip

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// Changes that come faster than all members can be told are told together.
func TestChangesCoalesceBehindThePace(t *testing.T) {
	const (
		members = 200
		changes = 300
		every   = 11 * time.Millisecond
	)
	synctest.Test(t, func(t *testing.T) {
		tb, err := table.New(table.Config{Self: discovery.HostID{0xff}, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		g := assemble(Config{Log: log}, newReplica(tb, table.NewExchange(tb, 1, 1), log), &transport{})
		for i := range members {
			id := discovery.HostID{byte(i), 1}
			tb.SetMember(time.Now(), id, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4798), discovery.StatusAlive)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { g.loop(ctx) })
		work.Go(func() { g.sender.run(ctx) })
		var most int
		for i := range changes {
			e := discovery.Endpoint{Network: discovery.NetworkID{1}, Name: "web"}
			binary.BigEndian.PutUint64(e.ID[:], uint64(i+1))
			g.Announce([]discovery.Endpoint{e}, nil)
			time.Sleep(every)
			most = max(most, len(g.sender.udp))
		}
		time.Sleep(time.Second)
		var unsent bool
		g.replica.read(func() { unsent = g.replica.x.Unsent() })
		cancel()
		work.Wait()
		told := g.count.noMember.Load()
		if full := g.count.outboxFull.Load(); full > 0 || most > 4 || told < members || unsent {
			t.Errorf("%d datagrams dropped, %d sent, %d flushes waited, changes left: %t", full, told, most, unsent)
		}
		t.Logf("%d changes: %d datagrams for %d members, %d flushes waited", changes, told, members, most)
	})
}
