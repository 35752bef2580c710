package gossip

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Stranger is an address at which no member is, and from which came what no member
// sends: messages under another key, or more at once than a stranger may.
type Stranger struct {
	From  netip.Addr
	Times int       // since it began, without a pause of strangerTime
	Last  time.Time // when the last one came
}

const (
	// strangerTime is how long a stranger is told of after its last try.
	strangerTime = 10 * time.Minute
	// mostStrangers are told apart: their number is in their hands.
	mostStrangers = 64
)

// strangers counts those who speak to the gossip port without being members.
type strangers struct {
	member func(netip.Addr) bool // a member is there; may be nil

	mu   sync.Mutex // guards what follows
	seen map[netip.Addr]Stranger
}

// note counts one more try.
func (s *strangers) note(from netip.Addr, now time.Time) {
	if s.member != nil && s.member(from) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	one, known := s.seen[from]
	if !known && len(s.seen) == mostStrangers {
		return
	}
	if s.seen == nil {
		s.seen = map[netip.Addr]Stranger{}
	}
	s.seen[from] = Stranger{from, one.Times + 1, now}
}

// forget drops those that are silent; s.mu is held.
func (s *strangers) forget(now time.Time) {
	for from, one := range s.seen {
		if now.Sub(one.Last) > strangerTime {
			delete(s.seen, from)
		}
	}
}

// all are those that were not silent for long, the busiest first.
func (s *strangers) all(now time.Time) (out []Stranger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	for _, one := range s.seen {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Stranger) int {
		return cmp.Or(cmp.Compare(b.Times, a.Times), a.From.Compare(b.From))
	})
	return out
}

// Trouble is what is wrong at the gossip port.
type Trouble struct {
	Losses    []Loss     // of datagrams, between this host and members
	Strangers []Stranger // who speaks to it without being a member
}

// Trouble says what is wrong now.
func (g *Gossip) Trouble() Trouble { return Trouble{g.Losses(), g.Strangers()} }

// Strangers are who speaks to the gossip port without being a member, the busiest
// first.
func (g *Gossip) Strangers() []Stranger { return g.strangers.all(time.Now()) }

// senderIn is the address in a line of memberlist about what came from one.
func senderIn(line []byte) (netip.Addr, bool) {
	_, from, found := bytes.Cut(line, []byte(" from="))
	from, _, _ = bytes.Cut(from, []byte(" "))
	at, err := netip.ParseAddrPort(string(from))
	return at.Addr().Unmap(), found && err == nil
}
