package gossip

import (
	"context"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

const (
	coalesce    = 10 * time.Millisecond // between two flushes; the first after a pause waits for nothing
	flushMost   = time.Second           // a flush waits no longer for the datagrams of the last one
	tick        = 50 * time.Millisecond
	goodbye     = 300 * time.Millisecond // for the last version to be confirmed
	batch       = 64                     // messages handled before others may look at the table
	saveEvery   = 500 * time.Millisecond // the table, and longer for each savedAtOnce of its bytes
	saveAtLeast = 10 * time.Second
	savedAtOnce = 64 << 10
	findEvery   = time.Second      // knocking at missing members
	rejoinMean  = 10 * time.Second // between rounds of the rejoin loop
)

// Run keeps the table until ctx ends, and returns nil then. It does not leave
// the cluster: the last version says that the host will be back soon.
func (g *Gossip) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g.work.Go(func() { g.sendDatagrams(inner) })
	g.work.Go(func() { g.saveLoop() })
	g.work.Go(func() { g.findLoop(ctx) })
	g.work.Go(func() { g.rejoinLoop(ctx) })
	g.work.Go(func() { g.probeDownLoop(ctx) })
	g.loop(ctx)
	g.sayGoodbye(inner)
	err := g.ml.Shutdown()
	cancel()
	g.saveNow()
	close(g.saves)
	g.work.Wait()
	return err
}

// loop is the only goroutine that handles messages and events.
func (g *Gossip) loop(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	armed := true
	var flushed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-g.inbox:
			g.receive(b)
		case <-g.events.ready:
			g.handleEvents()
		case <-g.kick:
			if !armed {
				flush.Reset(time.Until(flushed.Add(coalesce)))
				armed = true
			}
		case <-flush.C:
			if len(g.udp) > 0 && time.Since(flushed) < flushMost {
				// Many members, and the pace of the datagrams: what changes until
				// they are out goes into one message. Queued, it would be dropped.
				flush.Reset(coalesce)
				continue
			}
			armed, flushed = false, time.Now()
			g.step(func(time.Time) { g.x.Flush() })
		case <-ticker.C:
			g.step(g.x.Tick)
			g.saveDue()
		}
	}
}

// step changes the table under the lock and sends what comes of it.
func (g *Gossip) step(f func(now time.Time)) {
	g.mu.Lock()
	f(time.Now())
	g.noteChanges()
	out, unsent, forgotten := g.x.Take(), g.x.Unsent(), g.x.ForgottenBy()
	g.mu.Unlock()
	g.dispatch(out)
	if unsent {
		g.requestFlush() // a new incarnation was needed
	}
	if forgotten != "" && !g.told.Swap(true) && g.cfg.Forgotten != nil {
		g.cfg.Forgotten(forgotten)
	}
}

// receive handles one message and those that wait behind it.
func (g *Gossip) receive(b []byte) {
	var calls []table.Call
	g.step(func(now time.Time) {
		for n := 0; ; n++ {
			g.count.received.Add(1)
			if m, err := g.x.Receive(now, b); err == nil {
				if c, ok := m.(table.Call); ok {
					calls = append(calls, c)
				}
			}
			if n == batch {
				return
			}
			select {
			case b = <-g.inbox:
			default:
				return
			}
		}
	})
	for _, c := range calls {
		g.receiveCall(c)
	}
}

// sayGoodbye pushes the last version, until every member confirmed it or a
// moment is over: their names for us then stay for a minute.
func (g *Gossip) sayGoodbye(ctx context.Context) {
	if g.left.Load() {
		return
	}
	g.update(func() { g.table.SetHeader(func(h *discovery.Header) { h.Flags |= discovery.FlagBackSoon }) })
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	g.step(func(time.Time) { g.x.Flush() })
	g.confirmAll(ctx, func() {
		select {
		case b := <-g.inbox:
			g.receive(b)
		default:
		}
	})
}

// confirmAll repeats the newest own version until every alive member has shown
// it or ctx ends. The loop calls pump while it waits.
func (g *Gossip) confirmAll(ctx context.Context, pump func()) (behind int) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		g.mu.Lock()
		behind = len(g.x.Behind())
		g.mu.Unlock()
		if behind == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return behind
		case <-again.C:
			g.step(func(time.Time) { g.x.Retry() })
		case <-poll.C:
			pump()
		}
	}
}
