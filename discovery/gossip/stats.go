package gossip

import (
	"sync/atomic"

	"github.com/weft-net/weft/discovery/table"
)

// Stats counts since the start; each number only grows.
type Stats struct {
	Received             uint64 // our messages that came
	Sent                 uint64 // our messages handed to the kernel
	ReceivedBytes        uint64 // of Received
	SentBytes            uint64 // of Sent
	SendErrors           uint64 // that could not be sent
	Overflow             uint64 // dropped because a queue was full
	NoMember             uint64 // dropped because the host's address is unknown
	Junk                 uint64 // received packets and streams that made no sense, or came under another key
	SaveErrors           uint64
	Rejoins              uint64 // successful contacts with a member that was missing
	Owners               int    // hosts whose state is known
	Incarnation, Version uint64 // of the own state
	table.Stats
}

type counters struct {
	received, receivedBytes, sent, sentBytes, sendErrors, inboxFull, outboxFull, noMember, dropped, junk, saveErrors, rejoins atomic.Uint64
}

// Stats returns the counters now.
func (g *Gossip) Stats() Stats {
	c := g.count
	s := Stats{Received: c.received.Load(), Sent: c.sent.Load(), SendErrors: c.sendErrors.Load(),
		ReceivedBytes: c.receivedBytes.Load(), SentBytes: c.sentBytes.Load(),
		Overflow: c.inboxFull.Load() + c.outboxFull.Load(), NoMember: c.noMember.Load(),
		Junk: c.junk.Load(), SaveErrors: c.saveErrors.Load(), Rejoins: c.rejoins.Load()}
	g.replica.read(func() {
		own := g.replica.table.OwnVersion()
		s.Owners, s.Incarnation, s.Version, s.Stats = g.replica.table.Owners(), own.Inc, own.Ver, g.replica.x.Stats()
	})
	return s
}
