package gossip

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

const (
	coalesce  = 10 * time.Millisecond // between two flushes; the first after a pause waits for nothing
	flushMost = time.Second           // a flush waits no longer for the datagrams of the last one
	tick      = 50 * time.Millisecond
	idleTick  = 500 * time.Millisecond // while nothing is under way
	goodbye   = 300 * time.Millisecond // for the last version to be confirmed
	batch     = 64                     // messages handled before others may look at the table
)

// Run keeps the table until ctx ends, and returns nil then. It does not leave
// the cluster: the last version says that the host will be back soon.
func (g *Gossip) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g.work.Go(func() { g.sender.run(inner) })
	g.work.Go(g.saver.run)
	g.work.Go(func() { g.rejoiner.find(ctx) })
	g.work.Go(func() { g.rejoiner.rejoin(ctx) })
	g.work.Go(func() { g.liveness.run(ctx) })
	g.work.Go(func() { g.paths.run(ctx) })
	g.loop(ctx)
	g.sayGoodbye(inner)
	err := g.contacts.ml.Shutdown()
	cancel()
	g.saver.close()
	g.work.Wait()
	return err
}

// loop is the only goroutine that handles messages and events.
func (g *Gossip) loop(ctx context.Context) {
	ticks := newTicks()
	defer ticks.Stop()
	flush := time.NewTimer(0)
	defer flush.Stop()
	armed := true
	var flushed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-g.inbox.messages:
			g.receive(g.inbox.took(b), true)
			ticks.wake()
		case <-g.inbox.ready:
			g.handleEvents(ctx)
			ticks.wake()
		case <-g.replica.flush:
			if !armed {
				flush.Reset(time.Until(flushed.Add(coalesce)))
				armed = true
			}
		case <-flush.C:
			if g.sender.busy() && time.Since(flushed) < flushMost {
				// Many members, and the pace of the datagrams: what changes until
				// they are out goes into one message. Queued, it would be dropped.
				flush.Reset(coalesce)
				continue
			}
			armed, flushed = false, time.Now()
			g.replica.step(func(time.Time) { g.replica.x.Flush() })
		case <-ticks.C:
			idle := false
			g.replica.step(func(now time.Time) {
				g.replica.x.Tick(now)
				idle = g.replica.x.Idle()
			})
			g.saver.saveDue()
			ticks.next(idle)
		}
	}
}

// ticks is the clock of what is repeated. A host on which nothing is under way
// sleeps longer: an agent that does nothing should cost nothing.
type ticks struct {
	*time.Timer
	idle bool
}

func newTicks() *ticks { return &ticks{Timer: time.NewTimer(tick)} }

// next sets the clock after a tick.
func (t *ticks) next(idle bool) {
	t.idle = idle
	if idle {
		t.Reset(idleTick)
	} else {
		t.Reset(tick)
	}
}

// wake ends the long sleep: something came that may have to be repeated.
func (t *ticks) wake() {
	if t.idle {
		t.next(false)
	}
}

// receive handles one message and those that wait behind it; sent: it was sent to this
// host's port, and is not what memberlist exchanged with it.
func (g *Gossip) receive(b []byte, sent bool) {
	var calls []table.Call
	g.replica.step(func(now time.Time) {
		for n := 0; ; n++ {
			g.count.received.Add(1)
			g.count.receivedBytes.Add(uint64(len(b)))
			if sent {
				g.clones.note(b)
			}
			if c, err := g.replica.x.Receive(now, b); err == nil && c != nil {
				calls = append(calls, *c)
			}
			if n == batch {
				return
			}
			select {
			case b = <-g.inbox.messages:
				sent, b = true, g.inbox.took(b)
			default:
				return
			}
		}
	})
	for _, c := range calls {
		g.caller.receive(c)
	}
}

// handleEvents works off what memberlist's callbacks noted.
func (g *Gossip) handleEvents(ctx context.Context) {
	for _, e := range g.inbox.takeEvents() {
		id, ok := hostID(e.node.Name)
		switch {
		case e.kind == digestReceived:
			g.receive(e.bytes, false)
		case !ok, id == g.cfg.Self && e.kind != idTaken:
		case e.kind == memberUp:
			g.liveness.up(id, e.node)
		case e.kind == memberDown:
			g.liveness.down(id, e.node)
		case e.kind == probeAnswered:
			g.probeAnswered(id, e)
		case e.kind == refusedAlive:
			g.tellGone(id, e.node)
		case e.kind == idTaken:
			g.work.Go(func() { g.clones.check(ctx, e.node) })
		}
	}
}

func (g *Gossip) probeAnswered(id discovery.HostID, e event) {
	g.paths.passed(id, time.Now())
	g.replica.step(func(now time.Time) {
		g.replica.table.SetRTT(id, e.rtt)
		if err := g.replica.x.Acked(now, id, e.bytes); err != nil {
			g.replica.log.Debug("probe answer", g.replica.table.View().LogMember(id), "err", err)
		}
	})
}

func (g *Gossip) tellGone(id discovery.HostID, n memberlist.Node) {
	g.sender.learn(id, n)
	g.replica.step(func(now time.Time) { g.replica.x.TellGone(now, id) })
}

// sayGoodbye pushes the last version, until every member confirmed it or a moment
// is over. The members then keep this host's names for a minute.
func (g *Gossip) sayGoodbye(ctx context.Context) {
	if g.left.Load() {
		return
	}
	g.SetHeader(func(h *discovery.Header) { h.Flags |= discovery.FlagBackSoon })
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	g.replica.step(func(time.Time) { g.replica.x.Flush() })
	g.confirmAll(ctx, func() {
		select {
		case b := <-g.inbox.messages:
			g.receive(g.inbox.took(b), true)
		default:
		}
	})
}

// confirmAll repeats the newest own version until every alive member has shown
// it or ctx ends, and returns how many have not. The loop calls pump while it
// waits.
func (g *Gossip) confirmAll(ctx context.Context, pump func()) (behind int) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if behind = g.replica.behind(); behind == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return behind
		case <-again.C:
			g.replica.step(func(time.Time) { g.replica.x.Retry() })
		case <-poll.C:
			pump()
		}
	}
}
