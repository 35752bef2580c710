package table

import (
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	askAfter  = time.Second // from the start until owners are asked themselves
	askAgain  = time.Second
	askAtOnce = 4           // in one tick
	patience  = time.Minute // after which any member's word counts
)

// confirmer finds out whether the states that the disk remembered are still
// what their owners say: only then is the view complete.
type confirmer struct {
	*shared
	pulls *puller
	asked map[discovery.HostID]time.Time // owners, and when they were asked
}

// confirmFrom notes that a member showed the state of an owner that is held. Only
// the owner's word counts, or that of a member whose own view is complete: two
// hosts that were started again may remember the same old state of a third. Each
// would believe the other, and sweep the entries of what the third announced later.
//
// After a minute any member's word counts: this host may never reach an owner that
// other members hear.
func (c *confirmer) confirmFrom(now time.Time, o *owner, from discovery.HostID, complete bool) {
	trusted := complete || now.Sub(c.t.started) > patience
	if from == o.id || trusted && !c.pulls.wantsNewer(o) {
		c.t.confirm(o)
	}
}

// confirmAll is confirmFrom of a member whose whole table is ours.
func (c *confirmer) confirmAll(now time.Time, complete bool) {
	if c.t.complete {
		return
	}
	for _, o := range c.t.owners.byID {
		c.confirmFrom(now, o, discovery.HostID{}, complete)
	}
}

// askOwners asks those whose state is a memory whether it still is so, a few at a
// time: when all hosts start at once there is no member yet whose word counts.
func (c *confirmer) askOwners(now time.Time) {
	if c.t.complete || c.t.joining || now.Sub(c.t.started) < askAfter {
		return
	}
	alive := c.alive()
	c.rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	asked := 0
	for _, id := range alive {
		o := c.t.owners.byID[id]
		if o.pulled || o.at.IsZero() || now.Sub(c.asked[id]) < askAgain {
			continue
		}
		c.asked[id] = now
		c.send(id, true, pull{From: c.t.own.id, Owners: []pullEntry{{shortOf(id), o.at}}})
		if asked++; asked == askAtOnce {
			return
		}
	}
}
