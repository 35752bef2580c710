package tunnel

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// How often a member is proven. The first bound is one that people wait for: what is
// broken shows within it and the three seconds that a volley without replies takes.
const (
	nearPeriod = 10 * time.Second // at most, to members that share a network
	farPeriod  = time.Minute      // to others
	failPeriod = 5 * time.Second  // while frames are lost, so that it is soon said that they pass again
	jitter     = 5                // a part of the period that hosts do not have in common
	// fullShare is how many members are proven each period. Of a larger cluster's a
	// host proves as many in the same time, so that it costs the same.
	fullShare = 49
)

// period is how long a member waits for its turn, at most.
func period(shares bool, members int) time.Duration {
	d := farPeriod
	if shares {
		d = nearPeriod
	}
	return d * time.Duration(max(members, fullShare)) / fullShare
}

// schedule says whose turn it is.
type schedule struct {
	wake pace.Signal // somebody's turn came early

	mu    sync.Mutex // guards what follows
	turns map[discovery.HostID]*turn
}

// turn is when a member is proven next.
type turn struct {
	peer
	due   time.Time
	busy  bool // it is being proven
	again bool // it was asked for meanwhile
}

func newSchedule() *schedule {
	return &schedule{wake: pace.NewSignal(), turns: map[discovery.HostID]*turn{}}
}

// follow takes the members as they are now. It is at once the turn of one that is new,
// has moved, is back or has another device.
func (s *schedule) follow(peers []peer, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[discovery.HostID]bool, len(peers))
	for _, p := range peers {
		if !p.alive {
			continue
		}
		there[p.id] = true
		t := s.turns[p.id]
		switch {
		case t == nil:
			s.turns[p.id] = &turn{peer: p, due: now}
			continue
		case t.addr != p.addr, t.full != p.full, p.shares && !t.shares:
			t.advance(now)
		}
		t.peer = p
	}
	for id := range s.turns {
		if !there[id] {
			delete(s.turns, id)
		}
	}
}

// advance makes it a member's turn.
func (t *turn) advance(now time.Time) {
	t.due, t.again = now, t.busy
}

// hurry makes it everybody's turn.
func (s *schedule) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.turns {
		t.advance(time.Now())
	}
	s.wake.Set()
}

// take returns those whose turn it is, and when to ask again.
func (s *schedule) take(now time.Time) (all []peer, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = now.Add(time.Second)
	for _, t := range s.turns {
		switch {
		case t.busy:
		case !t.due.After(now):
			t.busy = true
			all = append(all, t.peer)
		case t.due.Before(next):
			next = t.due
		}
	}
	return all, next
}

// done says that a member was proven, and how.
func (s *schedule) done(id discovery.HostID, ok bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[id]
	if t == nil {
		return
	}
	wait := t.period
	if !ok {
		wait = min(wait, failPeriod)
	}
	t.busy, t.due = false, now.Add(wait-rand.N(wait/jitter))
	if t.again {
		t.again, t.due = false, now
		s.wake.Set()
	}
}
