// Package history keeps what happened on this host: an append-only journal of events
// on the disk, bounded in size and age, that can be asked and followed. It knows files
// and time, and nothing of what the events mean.
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/agent/event"
)

// Config is what a Journal is made of.
type Config struct {
	Dir  string        // is made when it is not there; its parent must be
	Max  int64         // bytes on the disk
	Age  time.Duration // events older than this are removed
	Host string        // of events that do not say which
	Log  *slog.Logger
}

// Entry is an event with its number. Numbers of one host grow, also over restarts and
// when the directory is lost: they are at least the microseconds since 1970.
type Entry struct {
	ID uint64 `json:"id"`
	event.Event
}

// Journal is the history of one host. It is safe for concurrent use.
type Journal struct {
	cfg   Config
	queue chan item
	lost  atomic.Int64 // events that nobody can read, since the last that was written
	disk  *segments    // Run's

	mu    sync.Mutex
	state State
	feeds map[*Feed]bool
}

// item is an event on its way to the disk, or, with done, a question whether all
// before it is there.
type item struct {
	event event.Event
	done  chan struct{}
}

// State is what status tells of a journal.
type State struct {
	Err   error     // why events are lost now; nil: they are not
	Since time.Time // of Err
	Lost  int64     // events that were lost since the agent began
}

const (
	queued    = 4096 // events that wait for the disk
	batch     = 256  // of them that are one write
	openAgain = 5 * time.Second
	largest   = 16 << 10 // bytes of one event; a larger one loses its detail
)

// New returns a journal that has not touched the disk yet. Events wait for Run.
func New(cfg Config) *Journal {
	return &Journal{cfg: cfg, queue: make(chan item, queued), feeds: map[*Feed]bool{},
		disk: &segments{dir: cfg.Dir, max: cfg.Max, age: cfg.Age}}
}

// Emit is an event.Sink. When the disk is slower than the events, those that find the
// queue full are counted, and the count is written down later.
func (j *Journal) Emit(e event.Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	if e.Host == "" {
		e.Host = j.cfg.Host
	}
	if e.By == "" {
		e.By = e.Host
	}
	select {
	case j.queue <- item{event: e}:
	default:
		j.lost.Add(1)
		j.count(1)
	}
}

// Run writes events down until ctx ends, and then those that are queued. A disk that
// is full, read-only or not ours costs events: it is looked at again and again.
func (j *Journal) Run(ctx context.Context) error {
	defer j.disk.close()
	j.note(j.disk.open(time.Now()))
	tick := time.NewTicker(openAgain)
	defer tick.Stop()
	for {
		select {
		case first := <-j.queue:
			j.take(first)
		case <-tick.C:
			j.tend()
		case <-ctx.Done():
			for {
				select {
				case first := <-j.queue:
					j.take(first)
				default:
					return nil
				}
			}
		}
	}
}

// take writes one item and those that wait behind it, in one write.
func (j *Journal) take(first item) {
	items := []item{first}
	for more := true; more && len(items) < batch; {
		select {
		case next := <-j.queue:
			items = append(items, next)
		default:
			more = false
		}
	}
	var events []event.Event
	for _, i := range items {
		if i.done == nil {
			events = append(events, i.event)
		}
	}
	if len(events) > 0 {
		j.write(events)
	}
	for _, i := range items {
		if i.done != nil {
			close(i.done)
		}
	}
}

// write numbers and appends events, and hands them to whoever follows. When some
// before them were lost, an event that says so comes first.
func (j *Journal) write(events []event.Event) {
	now := time.Now()
	var entries []Entry
	missing := j.lost.Load()
	if missing > 0 {
		entries = append(entries, Entry{j.disk.number(now), event.Event{At: now.UTC(), Host: j.cfg.Host, Kind: event.EventsLost, Subject: j.cfg.Host,
			Text: fmt.Sprintf("%d events before this one could not be written down", missing), Detail: map[string]any{"lost": missing}}})
	}
	for _, e := range events {
		entries = append(entries, Entry{j.disk.number(now), e})
	}
	var lines []byte
	for _, e := range entries {
		lines = append(lines, encode(e)...)
	}
	err := j.disk.append(lines, entries[0].ID, now)
	if err == nil {
		j.lost.Add(-missing)
	} else {
		entries = entries[len(entries)-len(events):]
		j.lost.Add(int64(len(events)))
		j.count(int64(len(events)))
	}
	j.note(err)
	j.hand(entries)
}

// tend looks after the disk while nothing happens. How many events are missing is
// written down as soon as it can be: the next event may be long in coming.
func (j *Journal) tend() {
	err := j.disk.tend(time.Now())
	if err == nil && j.lost.Load() > 0 {
		j.write(nil)
		return
	}
	j.note(err)
}

// encode makes the line of an entry. What no line can hold is left out of it.
func encode(e Entry) []byte {
	b, err := json.Marshal(e)
	if err != nil || len(b) > largest {
		e.Detail = map[string]any{"cut": len(b)}
		e.Text = e.Text[:min(len(e.Text), 1024)]
		b, _ = json.Marshal(e)
	}
	return append(b, '\n')
}

// note keeps why events are lost, and logs when that begins and ends.
func (j *Journal) note(err error) {
	j.mu.Lock()
	was := j.state
	if j.state.Err = err; err == nil {
		j.state.Since = time.Time{}
	} else if was.Err == nil {
		j.state.Since = time.Now()
	}
	lost := j.state.Lost
	j.mu.Unlock()
	switch {
	case err != nil && (was.Err == nil || was.Err.Error() != err.Error()):
		j.cfg.Log.Warn("events are not written down: everything else goes on", "err", err)
	case err == nil && was.Err != nil:
		j.cfg.Log.Info("events are written down again", "lost", lost)
	}
}

func (j *Journal) count(n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Lost += n
}

// State says whether events are lost.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

// flush waits until what was emitted before is on the disk, or lost; not for long.
func (j *Journal) flush(ctx context.Context) {
	done := make(chan struct{})
	late := time.NewTimer(flushFor)
	defer late.Stop()
	select {
	case j.queue <- item{done: done}:
	case <-ctx.Done():
		return
	case <-late.C:
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-late.C:
	}
}

// flushFor is how long a reader waits for the newest events.
const flushFor = 500 * time.Millisecond
