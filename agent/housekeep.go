package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/discovery"
)

// housekeep does what depends on time or on others: it finishes deletions,
// leases the host's own addresses, refreshes the header and writes back what a
// wiped store lost.
func (m *member) housekeep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	notes := notes{log: m.log, events: m.events, where: func() string { return storeName(m.pool.Address) }, unnamed: map[string]bool{}}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		notes.store(m.pool.Networks.Healthy())
		m.deletions.Finish(ctx)
		m.deletions.Follow(ctx)
		m.book.FreeUnclaimed(ctx, time.Now())
		m.endpoints.HostAddresses(ctx, m.networks.ByName())
		m.resolvers.Look()
		m.endpoints.FollowSearch()
		m.disks.copy(time.Now(), m.log)
		if notes.disk(m.disks.problem()) {
			m.endpoints.FreeOrphans(ctx, func(n discovery.NetworkID, _ discovery.EndpointID) bool { return m.book.Serves(n) })
		}
		if n%10 == 0 {
			m.directory.SetHeader(m.describe)
			m.writeBack(ctx)
			zone, _ := m.last()
			notes.names(diagnose.Unservable(zone))
			notes.neighbours(diagnose.NeighbourTables(m.neighbours()))
			m.endpoints.Ports.Retry()
		}
		if n%60 == 0 {
			m.host.FreeOwed(ctx)
		}
	}
}

// writeBack puts back what the store lost. What a host that was taken out held
// belongs to others by now, and one that leaves has given it back.
func (m *member) writeBack(ctx context.Context) {
	if m.host.Usable() != nil || !m.networks.Lost() {
		return
	}
	m.networks.Reassert(ctx, m.pool.WriteBack, m.host.Meta(), m.host.Record(),
		networks.Holdings{Blocks: m.leases.Held(), Addrs: m.leases.HeldAddrs()})
}

// keepConflists follows the networks. The files stay when the agent ends: what was
// started with them is stopped with them.
func (m *member) keepConflists(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		m.setConflists()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// setConflists sweeps only once the pool has said which networks there are.
func (m *member) setConflists() {
	all, read := m.networks.ByVNI()
	m.conflists.Set(all, read)
}

// notes logs what begins and ends, not each time that it is found again.
type notes struct {
	log     *slog.Logger
	events  event.Sink
	where   func() string   // the store is
	away    time.Time       // since when the store does not answer; zero: it does
	unnamed map[string]bool // names that were said to be impossible
	crowded string          // state of the neighbour tables
	full    bool            // the disk takes no writes
}

// disk says when the disk takes no writes, and when it does again, which it returns.
func (n *notes) disk(err error) (back bool) {
	back = err == nil && n.full
	switch {
	case back:
		n.log.Info("the data directory takes writes again")
	case err != nil && !n.full:
		n.log.Error("the data directory takes no writes: what is attached goes on, nothing new is attached", "err", err)
	}
	n.full = err != nil
	return back
}

// store says when the store goes away, and when it is back.
func (n *notes) store(err error) {
	switch {
	case err != nil && n.away.IsZero():
		n.away = time.Now()
		n.events.Emit(event.Event{Kind: event.StoreAway, Subject: n.where(), Text: "the store cannot be used: what is attached goes on, new networks and blocks wait: " + err.Error()})
		n.log.Warn("the store cannot be used: what is attached goes on, new networks and blocks wait", "err", err)
	case err == nil && !n.away.IsZero():
		n.events.Emit(event.Event{Kind: event.StoreBack, Subject: n.where(), Text: fmt.Sprintf("the store is back after %s", time.Since(n.away).Round(time.Second))})
		n.log.Info("the store is back", "after", time.Since(n.away).Round(time.Second))
		n.away = time.Time{}
	}
}

// neighbours says when a neighbour table fills, is full, and has room again.
func (n *notes) neighbours(c api.Check) {
	switch {
	case c.State == n.crowded || n.crowded == "" && c.State == api.CheckOK:
	case c.State == api.CheckOK:
		n.log.Info("the kernel's neighbour tables have room again")
	default:
		n.log.Warn(c.Detail, "hint", c.Hint)
	}
	n.crowded = c.State
}

// names says once of each name that it is not served.
func (n *notes) names(all []string) {
	for _, name := range all {
		if !n.unnamed[name] {
			n.unnamed[name] = true
			n.log.Warn("not a name that DNS can carry: it is not served", "name", name)
		}
	}
}
