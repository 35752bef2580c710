package history

import "sync/atomic"

// Feed is what one reader follows. Its channel is closed when the reader is too slow,
// and by Close: a reader is never waited for.
type Feed struct {
	C    <-chan Entry
	c    chan Entry
	slow atomic.Bool
	j    *Journal
}

// fed is how far a reader may be behind.
const fed = 1024

// Follow returns a feed of the entries from now on.
func (j *Journal) Follow() *Feed {
	f := &Feed{c: make(chan Entry, fed), j: j}
	f.C = f.c
	j.mu.Lock()
	defer j.mu.Unlock()
	j.feeds[f] = true
	return f
}

// Slow reports whether the feed ended because its reader was too slow.
func (f *Feed) Slow() bool { return f.slow.Load() }

// Close ends the feed.
func (f *Feed) Close() {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	f.j.drop(f)
}

// Hush ends all feeds: the agent stops.
func (j *Journal) Hush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for f := range j.feeds {
		j.drop(f)
	}
}

// drop ends a feed; j.mu is held.
func (j *Journal) drop(f *Feed) {
	if j.feeds[f] {
		delete(j.feeds, f)
		close(f.c)
	}
}

// hand gives entries to all feeds.
func (j *Journal) hand(entries []Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for f := range j.feeds {
		for _, e := range entries {
			select {
			case f.c <- e:
				continue
			default:
			}
			f.slow.Store(true)
			j.drop(f)
			break
		}
	}
}
