package table

import (
	"maps"
	"time"

	"github.com/weft-net/weft/discovery"
)

const (
	fruitlessTime = 30 * time.Second // for which two tables are not compared again
	spread        = 2                // members that a repaired host compares itself with
	mostFruitless = 1024             // such pairs
	listLimit     = 1000             // owners above which a digest begins with bucket hashes
)

// comparer compares digests: it finds what every push missed.
type comparer struct {
	*shared
	pulls    *puller
	confirms *confirmer

	next      time.Time               // when a comparison may start
	spreads   int                     // comparisons left to start because of a repair
	fruitless map[[2]uint64]time.Time // pairs of roots whose comparison found nothing to repair
}

// expire forgets what was found fruitless long ago.
func (c *comparer) expire(now time.Time) {
	maps.DeleteFunc(c.fruitless, func(_ [2]uint64, at time.Time) bool { return now.Sub(at) > fruitlessTime })
}

// repaired notes that the table was repaired.
func (c *comparer) repaired() { c.spreads = spread }

// spreadRepair compares tables with a member at random after this one was
// repaired: what one host missed, others have missed too, and the next probe that
// shows it may be as many seconds away as there are members.
func (c *comparer) spreadRepair(now time.Time) {
	if c.spreads == 0 || now.Before(c.next) {
		return
	}
	if alive := c.alive(); len(alive) > 0 {
		c.spreads--
		c.next = now.Add(c.period())
		c.compare(alive[c.rand.IntN(len(alive))])
	}
}

// compareOnce starts a comparison, unless one was started lately or these two
// tables were found to differ in nothing that can be repaired.
func (c *comparer) compareOnce(now time.Time, with discovery.HostID, root uint64) {
	if _, ok := c.fruitless[[2]uint64{c.t.Root(), root}]; ok || now.Before(c.next) {
		return
	}
	c.next = now.Add(c.period())
	c.compare(with)
}

// period bounds the digests' share of the traffic: 17 bytes per owner.
func (c *comparer) period() time.Duration {
	n := 0
	for _, o := range c.t.owners.byID {
		if o.status != discovery.StatusLeft { // who has left asks nobody
			n++
		}
	}
	switch {
	case n <= 32:
		return c.slow * 500 * time.Millisecond
	case n <= 100:
		return c.slow * 2 * time.Second
	case n <= 1000:
		return c.slow * 5 * time.Second
	}
	return c.slow * 10 * time.Second
}

func (c *comparer) compare(with discovery.HostID) {
	c.stats.Digests++
	d := c.digest()
	d.Want = true
	c.send(with, true, d)
}

// header returns a digest without entries.
func (c *comparer) header() digest {
	return digest{From: c.t.own.id, Complete: c.t.complete, Root: c.t.Root()}
}

// digest returns what the table holds, in bucket hashes when it is much.
func (c *comparer) digest() digest {
	d := c.header()
	if len(c.t.owners.byID) > listLimit {
		d.Buckets = c.t.owners.bucketHashes()
	} else {
		d.Entries = c.t.owners.digest(d.covers)
	}
	return d
}

func (c *comparer) receive(now time.Time, d digest) {
	if d.Root == c.t.Root() {
		c.t.show(d.From, c.t.OwnVersion())
		c.confirms.confirmAll(now, d.Complete)
	}
	if d.Buckets != nil {
		c.receiveBuckets(d)
		return
	}
	theirs := make(map[short]bool, len(d.Entries))
	differ := false
	for _, e := range d.Entries {
		theirs[e.Owner] = true
		differ = c.differs(now, d, e) || differ
	}
	for id, o := range c.t.owners.byID {
		s := shortOf(id)
		differ = differ || !o.at.IsZero() && d.covers(s) && !theirs[s]
	}
	if !differ && d.Scope == nil && d.Root != c.t.Root() {
		if len(c.fruitless) < mostFruitless {
			c.fruitless[[2]uint64{c.t.Root(), d.Root}] = now
		}
	}
	if d.Want {
		reply := c.header()
		reply.Scope, reply.Entries = d.Scope, c.t.owners.digest(d.covers)
		c.send(d.From, true, reply)
	}
}

// differs reports whether the entry differs from what is held, in either
// direction, and wants what is newer.
func (c *comparer) differs(now time.Time, d digest, e digestEntry) bool {
	if c.t.forgotten.hasShort(e.Owner) {
		return false
	}
	o := c.t.owners.lookup(e.Owner)
	if o == c.t.own {
		if e.At == o.at && e.CRC != o.crc {
			c.shown(d.From, Version{e.At.Inc, e.At.Ver + 1}) // of a life that is forgotten
		} else {
			c.shown(d.From, e.At)
		}
		return e.At != o.at
	}
	switch {
	case o == nil || e.At.Compare(o.at) > 0:
		c.pulls.want(now, e.Owner, e.At, d.From)
	case e.At == o.at && e.CRC == o.crc:
		c.confirms.confirmFrom(now, o, d.From, d.Complete)
		return false
	case e.At == o.at && d.From == o.id && !c.t.limit.pauses(o):
		c.pulls.wantWhole(now, e.Owner, e.At)
	}
	return true
}

// receiveBuckets answers hashes with the entries of the buckets that differ.
func (c *comparer) receiveBuckets(d digest) {
	scope, differ := make([]byte, buckets/8), false
	for i, h := range c.t.owners.bucketHashes() {
		if h != d.Buckets[i] {
			scope[i/8] |= 1 << (i % 8)
			differ = true
		}
	}
	if !differ && !d.Want {
		return
	}
	reply := c.header()
	reply.Want, reply.Scope = differ, scope
	reply.Entries = c.t.owners.digest(reply.covers)
	c.send(d.From, true, reply)
}
