package gossip

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// Datagrams leave at 5000 a second at most: a thousand members are told of a
// change in 200 ms, and no switch buffer is asked to hold them all.
const (
	paceBurst = 50
	pacePause = 10 * time.Millisecond
)

// sender knows where members are and sends messages to them. Its caller never
// waits: a message that finds no room is dropped and counted, and the exchange
// repairs it like any other loss.
type sender struct {
	ml      *memberlist.Memberlist
	udp     chan []table.Packet
	streams chan struct{} // limits reliable messages under way
	work    *sync.WaitGroup
	count   *counters
	log     *slog.Logger

	mu    sync.Mutex // guards nodes
	nodes map[discovery.HostID]memberlist.Node

	// called is how a line of the log calls a member.
	called func(discovery.HostID) slog.Attr

	// drop discards outgoing messages, for tests; nil otherwise.
	drop func(to discovery.HostID, kind table.Kind) bool
}

func newSender(log *slog.Logger, work *sync.WaitGroup, count *counters) *sender {
	return &sender{udp: make(chan []table.Packet, 64), streams: make(chan struct{}, 64), work: work, count: count,
		log: log, nodes: map[discovery.HostID]memberlist.Node{}, called: discovery.View{}.LogMember}
}

// learn notes where a member is.
func (s *sender) learn(id discovery.HostID, n memberlist.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[id] = n
}

func (s *sender) node(id discovery.HostID) (memberlist.Node, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.nodes[id]
	return n, ok
}

// nodeWhere returns a member that match chooses.
func (s *sender) nodeWhere(match func(memberlist.Node) bool) (discovery.HostID, memberlist.Node, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.nodes {
		if match(n) {
			return id, n, true
		}
	}
	return discovery.HostID{}, memberlist.Node{}, false
}

// isAt reports whether a member is at an address.
func (s *sender) isAt(a netip.Addr) bool {
	_, _, ok := s.nodeWhere(func(n memberlist.Node) bool { return addrPort(n).Addr() == a })
	return ok
}

func (s *sender) dropped(to discovery.HostID, k table.Kind) bool {
	return s.drop != nil && s.drop(to, k)
}

// dispatch hands messages to the network.
func (s *sender) dispatch(out []table.Packet) {
	var datagrams []table.Packet
	for _, p := range out {
		switch {
		case s.dropped(p.To, p.Kind):
			s.count.dropped.Add(1)
		case p.Reliable:
			s.sendReliable(p)
		default:
			datagrams = append(datagrams, p)
		}
	}
	if len(datagrams) == 0 {
		return
	}
	select {
	case s.udp <- datagrams:
	default:
		s.count.outboxFull.Add(uint64(len(datagrams)))
	}
}

// busy reports whether datagrams wait to be sent.
func (s *sender) busy() bool { return len(s.udp) > 0 }

// run sends the datagrams until ctx ends.
func (s *sender) run(ctx context.Context) {
	sent := 0
	for {
		select {
		case <-ctx.Done():
			return
		case packets := <-s.udp:
			for _, p := range packets {
				s.sendDatagram(p)
				if sent++; sent%paceBurst == 0 && len(packets) > paceBurst {
					time.Sleep(pacePause) // the pace itself, nothing is awaited
				}
			}
		}
	}
}

func (s *sender) sendDatagram(p table.Packet) {
	n, ok := s.node(p.To)
	if !ok {
		s.count.noMember.Add(1)
		return
	}
	if err := s.ml.SendBestEffort(&n, p.Body); err != nil {
		s.count.sendErrors.Add(1)
		s.log.Debug("send", s.called(p.To), "kind", p.Kind, "err", err)
		return
	}
	s.count.sent.Add(1)
	s.count.sentBytes.Add(uint64(len(p.Body)))
}

// sendReliable sends over a connection of its own, in a goroutine: connecting
// to a host that is gone takes seconds.
func (s *sender) sendReliable(p table.Packet) {
	select {
	case s.streams <- struct{}{}:
	default:
		s.count.outboxFull.Add(1)
		return
	}
	s.work.Go(func() {
		defer func() { <-s.streams }()
		if err := s.stream(p); err != nil {
			s.log.Debug("send", s.called(p.To), "kind", p.Kind, "err", err)
		}
	})
}

// stream sends over a connection and waits until that is done or has failed.
func (s *sender) stream(p table.Packet) error {
	n, ok := s.node(p.To)
	if !ok {
		s.count.noMember.Add(1)
		return ErrNoMember
	}
	if err := s.ml.SendReliable(&n, p.Body); err != nil {
		s.count.sendErrors.Add(1)
		return err
	}
	s.count.sent.Add(1)
	s.count.sentBytes.Add(uint64(len(p.Body)))
	return nil
}
