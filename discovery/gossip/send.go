package gossip

import (
	"context"
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

// dispatch hands messages to the network. It never waits: what finds no room
// is dropped and counted, and repaired like any other loss.
func (g *Gossip) dispatch(out []table.Packet) {
	var datagrams []table.Packet
	for _, p := range out {
		switch {
		case g.drop != nil && g.drop(p.To, p.Kind):
			g.count.dropped.Add(1)
		case p.Reliable:
			g.sendReliable(p)
		default:
			datagrams = append(datagrams, p)
		}
	}
	if len(datagrams) == 0 {
		return
	}
	select {
	case g.udp <- datagrams:
	default:
		g.count.outboxFull.Add(uint64(len(datagrams)))
	}
}

func (g *Gossip) node(id discovery.HostID) (memberlist.Node, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.nodes[id]
	return n, ok
}

func (g *Gossip) sendDatagrams(ctx context.Context) {
	sent := 0
	for {
		select {
		case <-ctx.Done():
			return
		case packets := <-g.udp:
			for _, p := range packets {
				g.sendDatagram(p)
				if sent++; sent%paceBurst == 0 && len(packets) > paceBurst {
					time.Sleep(pacePause) // the pace itself, nothing is awaited
				}
			}
		}
	}
}

func (g *Gossip) sendDatagram(p table.Packet) {
	n, ok := g.node(p.To)
	if !ok {
		g.count.noMember.Add(1)
		return
	}
	if err := g.ml.SendBestEffort(&n, p.Body); err != nil {
		g.count.sendErrors.Add(1)
		g.log.Debug("send", "member", p.To, "kind", p.Kind, "err", err)
		return
	}
	g.count.sent.Add(1)
}

// sendReliable sends over a connection of its own, in a goroutine: connecting
// to a host that is gone takes seconds.
func (g *Gossip) sendReliable(p table.Packet) {
	select {
	case g.streams <- struct{}{}:
	default:
		g.count.outboxFull.Add(1)
		return
	}
	g.work.Go(func() {
		defer func() { <-g.streams }()
		if err := g.stream(p); err != nil {
			g.log.Debug("send", "member", p.To, "kind", p.Kind, "err", err)
		}
	})
}

func (g *Gossip) stream(p table.Packet) error {
	n, ok := g.node(p.To)
	if !ok {
		g.count.noMember.Add(1)
		return ErrNoMember
	}
	if err := g.ml.SendReliable(&n, p.Body); err != nil {
		g.count.sendErrors.Add(1)
		return err
	}
	g.count.sent.Add(1)
	return nil
}
