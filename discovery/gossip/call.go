package gossip

import (
	"context"
	"errors"
	"fmt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// ErrNoMember means that a host is not a member that can be sent to.
var ErrNoMember = errors.New("no such member")

// Call asks another member and returns its answer. It fails with ErrNoMember,
// with what connecting to it failed with, or when ctx ends.
func (g *Gossip) Call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	g.mu.Lock()
	g.callSeq++
	seq := g.callSeq
	g.calls[seq] = answer
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.calls, seq)
		g.mu.Unlock()
	}()
	if err := g.sendCall(ctx, to, table.Call{From: g.cfg.Self, Seq: seq, Body: body}); err != nil {
		return nil, fmt.Errorf("call member %s: %w", to, err)
	}
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("call member %s: %w", to, ctx.Err())
	}
}

// sendCall sends in a goroutine, so that ctx can end the wait for a connection;
// the attempt itself ends within dialTimeout.
func (g *Gossip) sendCall(ctx context.Context, to discovery.HostID, c table.Call) error {
	if _, ok := g.node(to); !ok {
		return ErrNoMember
	}
	done := make(chan error, 1)
	p := table.Packet{To: to, Reliable: true, Kind: table.KindCall, Body: c.Append(nil)}
	if g.drop != nil && g.drop(to, p.Kind) {
		return nil
	}
	go func() { done <- g.stream(p) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receiveCall passes an answer to the Call that waits for it, and a request to
// Serve, which may take its time.
func (g *Gossip) receiveCall(c table.Call) {
	if c.Reply {
		g.mu.Lock()
		answer := g.calls[c.Seq]
		g.mu.Unlock()
		if answer != nil {
			select {
			case answer <- c.Body:
			default: // a second answer to one request
			}
		}
		return
	}
	if g.cfg.Serve == nil {
		return
	}
	g.work.Go(func() {
		reply := table.Call{From: g.cfg.Self, Seq: c.Seq, Reply: true, Body: g.cfg.Serve(c.From, c.Body)}
		g.dispatch([]table.Packet{{To: c.From, Reliable: true, Kind: table.KindReply, Body: reply.Append(nil)}})
	})
}
