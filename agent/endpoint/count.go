package endpoint

import (
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/discovery"
)

// Bounds are the ends of the ranges in which durations are counted, in seconds.
var Bounds = [...]float64{0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Durations are how long requests of one runtime took.
type Durations struct {
	Runtime string
	Ranges  [len(Bounds) + 1]uint64 // requests within each of Bounds and not the one before; the last: longer
	Count   uint64
	Sum     time.Duration
	Failed  uint64 // requests that are not among Count
}

// Stats count since the membership began.
type Stats struct{ Attached, Detached []Durations }

// runtimes are those that requests may name.
var runtimes = [...]string{discovery.RuntimeNetns, discovery.RuntimeCNI, discovery.RuntimePodman, discovery.RuntimeContainerd, discovery.RuntimeDocker, discovery.RuntimeHost}

// durations counts requests of each runtime; the last of any other.
type durations [len(runtimes) + 1]struct {
	ranges [len(Bounds) + 1]atomic.Uint64
	sum    atomic.Int64
	failed atomic.Uint64
}

// counters are those of all requests.
type counters struct{ attached, detached durations }

// note counts a request that began then.
func (d *durations) note(runtime string, began time.Time, err error) {
	took := time.Since(began)
	i := 0
	for i < len(runtimes) && runtimes[i] != runtime {
		i++
	}
	if err != nil {
		d[i].failed.Add(1)
		return
	}
	at := 0
	for at < len(Bounds) && took.Seconds() > Bounds[at] {
		at++
	}
	d[i].ranges[at].Add(1)
	d[i].sum.Add(int64(took))
}

// list are those that are not zero.
func (d *durations) list() (out []Durations) {
	for i := range d {
		one := Durations{Runtime: "other", Sum: time.Duration(d[i].sum.Load()), Failed: d[i].failed.Load()}
		if i < len(runtimes) {
			one.Runtime = runtimes[i]
		}
		for j := range d[i].ranges {
			one.Ranges[j] = d[i].ranges[j].Load()
			one.Count += one.Ranges[j]
		}
		if one.Count+one.Failed > 0 {
			out = append(out, one)
		}
	}
	return out
}

// Stats returns the counters now.
func (m *Manager) Stats() Stats {
	return Stats{Attached: m.count.attached.list(), Detached: m.count.detached.list()}
}
