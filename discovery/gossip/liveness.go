package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/table"
)

const (
	refusalTime = 500 * time.Millisecond // a dead member's kernel has to refuse a connection
	recheck     = 5 * time.Second        // between looks at members that are down
	recheckMost = 16                     // members in one look
)

// liveness decides who is alive, dead, or has a kernel without an agent.
type liveness struct {
	replica  *replica
	sender   *sender
	contacts *contacts

	mu  sync.Mutex                  // guards seq
	seq map[discovery.HostID]uint64 // counts a member's ups and downs
}

// turn counts an up or down of the member and returns its number.
func (l *liveness) turn(id discovery.HostID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq[id]++
	return l.seq[id]
}

// livenessSeq returns the number of the member's last up or down.
func (l *liveness) livenessSeq(id discovery.HostID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq[id]
}

// up takes the host for alive at once: a member that is seen again has its names
// back before anything is compared.
func (l *liveness) up(id discovery.HostID, n memberlist.Node) {
	m, err := parseMeta(n.Meta)
	if err != nil {
		l.sender.count.junk.Add(1)
		return
	}
	l.sender.learn(id, n)
	l.replica.step(func(now time.Time) {
		l.turn(id)
		if l.replica.table.SetMember(now, id, addrPort(n), discovery.StatusAlive) {
			l.replica.tellAlive(id, addrPort(n))
		}
		l.replica.x.Started(now, id, m.inc)
	})
}

// down asks the host's kernel before it believes in its death.
func (l *liveness) down(id discovery.HostID, n memberlist.Node) {
	seq := l.turn(id)
	l.contacts.work.Go(func() { l.setDown(id, addrPort(n), seq) })
}

// setDown sets the status of a member that memberlist calls dead, unless it was
// seen again in the meantime.
func (l *liveness) setDown(id discovery.HostID, at netip.AddrPort, seq uint64) {
	status := discovery.StatusDead
	if l.refuses(at) {
		status = discovery.StatusAgentDown
	}
	l.replica.step(func(now time.Time) {
		if l.livenessSeq(id) == seq && l.replica.table.SetMember(now, id, at, status) {
			delete(l.replica.untold, id)
			l.replica.log.Info("member down", l.replica.table.View().LogMember(id), "addr", at, "status", status)
		}
	})
}

// refuses reports whether a kernel answers at the address and nobody listens
// there: a reset came back (RFC 9293, section 3.10.7.1).
func (l *liveness) refuses(at netip.AddrPort) bool {
	return errors.Is(l.contacts.probeTCP(at, refusalTime), syscall.ECONNREFUSED)
}

// run looks again at members that are down: a host whose kernel comes up before
// its agent changes from dead to agent-down, and one that is switched off the
// other way.
func (l *liveness) run(ctx context.Context) {
	for pace.Sleep(ctx, pace.Jitter(recheck)) {
		for _, p := range l.downMembers() {
			l.contacts.work.Go(func() { l.setDown(p.ID, p.Addr, l.livenessSeq(p.ID)) })
		}
	}
}

// downMembers returns at most a few members that are down, at random.
func (l *liveness) downMembers() []table.Peer {
	var out []table.Peer
	for _, p := range l.replica.peers() {
		if p.Addr.IsValid() && (p.Status == discovery.StatusDead || p.Status == discovery.StatusAgentDown) {
			out = append(out, p)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), recheckMost)]
}
