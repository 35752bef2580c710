package gossip

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
)

// knock is how long a dead member's kernel has to refuse a connection.
const knock = 500 * time.Millisecond

// handleEvents works off what memberlist's callbacks noted.
func (g *Gossip) handleEvents() {
	for _, e := range g.events.take() {
		id, ok := hostID(e.node.Name)
		switch {
		case e.kind == digestReceived:
			g.receive(e.bytes)
		case !ok, id == g.cfg.Self && e.kind != idTaken:
		case e.kind == memberUp:
			g.memberUp(id, e.node)
		case e.kind == memberDown:
			g.memberDown(id, e.node)
		case e.kind == probeAnswered:
			g.probeAnswered(id, e)
		case e.kind == refusedAlive:
			g.tellGone(id, e.node)
		case e.kind == idTaken:
			g.work.Go(func() { g.idTaken(e.node) })
		}
	}
}

// memberUp takes the host for alive at once: a member that is seen again has
// its names back before anything is compared.
func (g *Gossip) memberUp(id discovery.HostID, n memberlist.Node) {
	m, err := parseMeta(n.Meta)
	if err != nil {
		g.count.junk.Add(1)
		return
	}
	g.step(func(now time.Time) {
		g.nodes[id] = n
		g.verdict[id]++
		if g.table.SetMember(now, id, addrPort(n), discovery.StatusAlive) {
			g.log.Info("member alive", "member", id, "addr", addrPort(n))
		}
		g.x.Started(now, id, m.inc)
	})
}

// memberDown asks the host's kernel before it believes in its death.
func (g *Gossip) memberDown(id discovery.HostID, n memberlist.Node) {
	g.mu.Lock()
	g.verdict[id]++
	verdict := g.verdict[id]
	g.mu.Unlock()
	g.work.Go(func() { g.judge(id, addrPort(n), verdict) })
}

// judge sets the status of a member that memberlist calls dead, unless it was
// seen again in the meantime.
func (g *Gossip) judge(id discovery.HostID, at netip.AddrPort, verdict uint64) {
	status := discovery.StatusDead
	if g.refuses(at) {
		status = discovery.StatusAgentDown
	}
	g.step(func(now time.Time) {
		if g.verdict[id] == verdict && g.table.SetMember(now, id, at, status) {
			g.log.Info("member down", "member", id, "addr", at, "status", status)
		}
	})
}

// refuses reports whether a kernel answers at the address and nobody listens
// there: a reset came back (RFC 9293, section 3.10.7.1).
func (g *Gossip) refuses(at netip.AddrPort) bool {
	return errors.Is(g.knockAt(at, knock), syscall.ECONNREFUSED)
}

// knockAt connects to a gossip port and hangs up. It says the label, so that a
// member takes it for a stream that ended and not for a stranger.
func (g *Gossip) knockAt(at netip.AddrPort, limit time.Duration) error {
	conn, err := g.trans.DialTimeout(at.String(), limit)
	if err != nil {
		return err
	}
	return errors.Join(memberlist.AddLabelHeaderToStream(conn, g.label()), conn.Close())
}

func (g *Gossip) probeAnswered(id discovery.HostID, e event) {
	g.step(func(now time.Time) {
		g.table.SetRTT(id, e.rtt)
		if err := g.x.Acked(now, id, e.bytes); err != nil {
			g.log.Debug("probe answer", "member", id, "err", err)
		}
	})
}

func (g *Gossip) tellGone(id discovery.HostID, n memberlist.Node) {
	g.step(func(now time.Time) {
		g.nodes[id] = n
		g.x.TellGone(now, id)
	})
}

// idTaken looks whether another instance really runs under our id. After a
// change of our own address the members still show the old one, where nobody
// answers any more. A running one is reported by the newcomer; if both have
// run for long, by the one whose nonce is higher, so that one is left.
func (g *Gossip) idTaken(other memberlist.Node) {
	at := addrPort(other)
	if g.cfg.Conflict == nil || !g.answers(g.cfg.Self, at) {
		return
	}
	m, err := parseMeta(other.Meta)
	if err != nil || m.nonce == g.cfg.Nonce {
		return
	}
	if g.established() && g.cfg.Nonce < m.nonce {
		return
	}
	g.log.Error("another instance runs under this host's id", "addr", at)
	g.cfg.Conflict(at)
}

// established reports whether any member holds a state of this start of ours.
func (g *Gossip) established() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := g.table.OwnVersion()
	for id := range g.nodes {
		if g.x.HeldBy(id).Inc == own.Inc {
			return true
		}
	}
	return false
}
