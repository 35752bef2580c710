package overlay

import (
	"sync/atomic"
	"time"
)

// Stats count since the start; each number only grows.
type Stats struct {
	Passes  uint64        // comparisons of what is wanted with what the kernel has
	Failed  uint64        // of them, those that left something undone
	Took    time.Duration // by all of them
	Changes []Change      // one for each kind of object that was changed
}

// Change is how often objects of one kind were changed.
type Change struct {
	Kind         string // a word: fdb, link
	Put, Deleted uint64
	// Repaired are those of them that are told as a Repair: something else had changed
	// the kernel.
	Repaired uint64
}

// kinds are the words for kinds of objects.
var kinds = [...]string{"other", "link", "port", "address", "route", "fdb", "neighbour", "sysctl", "table", "element", "accept"}

// kindOf is the place of an object's word among them.
func kindOf(o Object) int {
	switch o.(type) {
	case Link:
		return 1
	case BridgePort:
		return 2
	case Addr:
		return 3
	case Route, Prohibit:
		return 4
	case FDB, BridgeFDB:
		return 5
	case Neigh:
		return 6
	case Sysctl:
		return 7
	case NFTable:
		return 8
	case NFElement:
		return 9
	case Accept:
		return 10
	}
	return 0
}

// counters are read while a pass is under way.
type counters struct {
	passes, failed         atomic.Uint64
	took                   atomic.Int64
	put, deleted, repaired [len(kinds)]atomic.Uint64
}

// passed counts one reconciliation.
func (c *counters) passed(began time.Time, err error) {
	c.passes.Add(1)
	c.took.Add(int64(time.Since(began)))
	if err != nil {
		c.failed.Add(1)
	}
}

// changed counts an object that the kernel took.
func (c *counters) changed(o Object, deleted, repair bool) {
	kind := kindOf(o)
	if deleted {
		c.deleted[kind].Add(1)
	} else {
		c.put[kind].Add(1)
	}
	if repair {
		c.repaired[kind].Add(1)
	}
}

// Stats returns the counters now. It waits for no pass.
func (o *Overlay) Stats() Stats {
	c := &o.count
	s := Stats{Passes: c.passes.Load(), Failed: c.failed.Load(), Took: time.Duration(c.took.Load())}
	for i, kind := range kinds {
		one := Change{Kind: kind, Put: c.put[i].Load(), Deleted: c.deleted[i].Load(), Repaired: c.repaired[i].Load()}
		if one.Put+one.Deleted > 0 {
			s.Changes = append(s.Changes, one)
		}
	}
	return s
}
