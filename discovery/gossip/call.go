package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// ErrNoMember means that a host is not a member that can be sent to.
var ErrNoMember = errors.New("no such member")

const (
	callAgain   = 80 * time.Millisecond // between two datagrams of one request
	callTries   = 8
	largestCall = 1200 // bytes of a datagram that passes everywhere
	mostServed  = 512
)

// Call asks another member and returns its answer. It fails with ErrNoMember, with
// the error of the connection, or when ctx ends.
func (g *Gossip) Call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
	return g.caller.call(ctx, to, body)
}

// caller carries requests to members, and their answers back.
type caller struct {
	self   discovery.HostID
	sender *sender
	serve  func(from discovery.HostID, body []byte) []byte // may be nil

	mu   sync.Mutex             // guards what follows
	open map[uint64]chan []byte // requests that wait for an answer
	seq  uint64                 // begins at random: a member may remember those of an earlier start
	done served
}

// begin returns the number of a new request and where its answer comes.
func (c *caller) begin() (seq uint64, answer chan []byte) {
	answer = make(chan []byte, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	c.open[c.seq] = answer
	return c.seq, answer
}

func (c *caller) end(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, seq)
}

func (c *caller) call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
	if _, ok := c.sender.node(to); !ok {
		return nil, fmt.Errorf("call member %s: %w", to, ErrNoMember)
	}
	seq, answer := c.begin()
	defer c.end(seq)
	p := table.Packet{To: to, Kind: table.KindCall, Body: table.Call{From: c.self, Seq: seq, Body: body}.Append(nil)}
	b, err := c.ask(ctx, p, answer)
	if err != nil {
		return nil, fmt.Errorf("call member %s: %w", to, err)
	}
	return b, nil
}

// ask sends the request as datagrams, a few times, and over a connection, until the
// answer is there. On a network that loses packets a connection alone may wait a
// second for its first answer (RFC 6298, section 2.1). It gives up when the
// connection failed and all datagrams are out, or when ctx ends.
func (c *caller) ask(ctx context.Context, p table.Packet, answer <-chan []byte) ([]byte, error) {
	failed := make(chan error, 1)
	connect := func() {
		p := p
		p.Reliable = true
		if !c.sender.dropped(p.To, p.Kind) {
			go func() {
				if err := c.sender.stream(p); err != nil {
					failed <- err
				}
			}()
		}
	}
	again := time.NewTicker(callAgain)
	defer again.Stop()
	tries := callTries
	if len(p.Body) <= largestCall {
		c.sender.dispatch([]table.Packet{p})
	} else {
		tries = 0
		connect()
	}
	var err error
	for n := 1; ; {
		select {
		case b := <-answer:
			return b, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case err = <-failed:
		case <-again.C:
			if n < tries {
				c.sender.dispatch([]table.Packet{p})
			}
			if n == 1 && tries > 0 {
				connect()
			}
			n++
		}
		if err != nil && n >= tries {
			return nil, err
		}
	}
}

// receive passes an answer to the call that waits for it, and a request to
// serve, which may take its time.
func (c *caller) receive(m table.Call) {
	if m.Reply {
		c.mu.Lock()
		answer := c.open[m.Seq]
		c.mu.Unlock()
		if answer != nil {
			select {
			case answer <- m.Body:
			default: // a second answer to one request
			}
		}
		return
	}
	if c.serve == nil {
		return
	}
	known, reply := c.done.begin(m.From, m.Seq)
	if known { // sent again because the answer has not arrived, or is not there yet
		c.reply(m.From, reply, false)
		return
	}
	c.sender.work.Go(func() {
		reply := table.Call{From: c.self, Seq: m.Seq, Reply: true, Body: c.serve(m.From, m.Body)}.Append(nil)
		c.done.end(m.From, m.Seq, reply)
		c.reply(m.From, reply, true)
	})
}

// reply sends an answer as a datagram, and with stream over a connection as well.
func (c *caller) reply(to discovery.HostID, reply []byte, stream bool) {
	var out []table.Packet
	if 0 < len(reply) && len(reply) <= largestCall {
		out = append(out, table.Packet{To: to, Kind: table.KindReply, Body: reply})
	}
	if stream {
		out = append(out, table.Packet{To: to, Reliable: true, Kind: table.KindReply, Body: reply})
	}
	c.sender.dispatch(out)
}

// served are the requests that came last, with their answers: a request that comes
// again is not carried out again.
type served struct {
	mu    sync.Mutex
	known map[servedKey][]byte // empty: not answered yet
	order []servedKey          // the oldest first
}

type servedKey struct {
	from discovery.HostID
	seq  uint64
}

// begin reports whether the request is known, and its answer if there is one.
func (s *served) begin(from discovery.HostID, seq uint64) (known bool, reply []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := servedKey{from, seq}
	if reply, known = s.known[key]; known {
		return true, reply
	}
	if s.known == nil {
		s.known = map[servedKey][]byte{}
	}
	s.known[key] = nil
	s.order = append(s.order, key)
	if len(s.order) > mostServed {
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
	return false, nil
}

func (s *served) end(from discovery.HostID, seq uint64, reply []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := (servedKey{from, seq}); len(reply) <= largestCall {
		if _, kept := s.known[key]; kept {
			s.known[key] = reply
		}
	}
}
