package dns

import "sync"

// quota bounds what is held at a time, by all and by each source: one client
// that holds on to its share is in nobody's way but its own.
type quota struct {
	each, total int

	mu   sync.Mutex // guards what follows
	held map[source]int
	sum  int
}

func newQuota(each, total int) *quota {
	return &quota{each: each, total: total, held: make(map[source]int)}
}

// take reports whether from may hold one more; then give has to follow.
func (q *quota) take(from source) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sum >= q.total || q.held[from] >= q.each {
		return false
	}
	q.held[from]++
	q.sum++
	return true
}

func (q *quota) give(from source) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sum--
	if q.held[from]--; q.held[from] == 0 {
		delete(q.held, from)
	}
}
