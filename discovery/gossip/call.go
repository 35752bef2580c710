package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// ErrNoMember means that a host is not a member that can be sent to.
var ErrNoMember = errors.New("no such member")

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
	seq  uint64
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
	seq, answer := c.begin()
	defer c.end(seq)
	if err := c.request(ctx, to, table.Call{From: c.self, Seq: seq, Body: body}); err != nil {
		return nil, fmt.Errorf("call member %s: %w", to, err)
	}
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("call member %s: %w", to, ctx.Err())
	}
}

// request sends in a goroutine, so that ctx can end the wait for a connection;
// the attempt itself ends within dialTimeout.
func (c *caller) request(ctx context.Context, to discovery.HostID, m table.Call) error {
	if _, ok := c.sender.node(to); !ok {
		return ErrNoMember
	}
	done := make(chan error, 1)
	p := table.Packet{To: to, Reliable: true, Kind: table.KindCall, Body: m.Append(nil)}
	if c.sender.dropped(to, p.Kind) {
		return nil
	}
	go func() { done <- c.sender.stream(p) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
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
	c.sender.work.Go(func() {
		reply := table.Call{From: c.self, Seq: m.Seq, Reply: true, Body: c.serve(m.From, m.Body)}
		c.sender.dispatch([]table.Packet{{To: m.From, Reliable: true, Kind: table.KindReply, Body: reply.Append(nil)}})
	})
}
