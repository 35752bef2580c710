package table

import (
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// SetMember tells the table what gossip believes of a host. An invalid addr
// keeps the known one. It reports whether the host's status changed; a
// forgotten host has none.
func (t *Table) SetMember(now time.Time, id discovery.HostID, addr netip.AddrPort, status discovery.MemberStatus) bool {
	if t.forgotten.has(id) {
		return false
	}
	o := t.owners.admitted(id, true)
	if o == nil {
		return false
	}
	if addr.IsValid() && o.gossip != addr {
		o.gossip = addr
		t.changed()
	}
	o.restored = false
	if o.status == status {
		return false
	}
	t.setStatus(now, o, status)
	return true
}

func (t *Table) setStatus(now time.Time, o *owner, status discovery.MemberStatus) {
	wasDown := down(o.status)
	o.status = status
	switch {
	case !down(status):
		o.died, o.hidden = time.Time{}, false
	case !wasDown || o.died.IsZero():
		o.died = now
	}
	o.hide(now, t.grace)
	t.endpointsChanged(o)
	t.endpointsChanged(t.own) // pending or not depends on whether others live
	t.checkComplete()
}

// down reports whether the member's agent does not take part.
func down(s discovery.MemberStatus) bool {
	return s != discovery.StatusAlive && s != discovery.StatusSuspect
}

// SetRTT notes the time of a probe. It shows in the next view and is no change
// of its own.
func (t *Table) SetRTT(id discovery.HostID, rtt time.Duration) {
	if o := t.owners.byID[id]; o != nil {
		o.rtt = rtt
		t.view.members = nil
	}
}

// Expire applies what becomes due by itself: names of dead hosts whose grace is
// over, and owners from the disk that nobody has seen since the start.
func (t *Table) Expire(now time.Time) {
	t.limit.now = now
	for _, o := range t.owners.byID {
		if o.restored && now.Sub(t.started) >= restoredGrace {
			o.restored = false
			t.setStatus(now, o, discovery.StatusDead)
		}
		if o.status == discovery.StatusDead && !o.hidden && o.hide(now, t.grace) {
			t.endpointsChanged(o)
		}
	}
}

// checkComplete latches complete once every alive owner was pulled.
func (t *Table) checkComplete() {
	if t.complete || t.joining {
		return
	}
	for _, o := range t.owners.byID {
		if !down(o.status) && !o.pulled {
			return
		}
	}
	t.complete = true
	t.changed()
}

// SetJoining takes completeness back while a host joins a cluster: what it
// knew alone is not all there is. Afterwards it is decided anew.
func (t *Table) SetJoining(joining bool) {
	t.joining = joining
	if joining && t.complete {
		t.complete = false
		t.changed()
	}
	t.checkComplete()
}

// Peer is a host that may be reached at an address.
type Peer struct {
	ID     discovery.HostID
	Addr   netip.AddrPort
	Status discovery.MemberStatus
	Seen   bool // gossip has spoken of it since this agent started
}

// Peers returns the other hosts that did not leave, those that are dead too.
func (t *Table) Peers() []Peer {
	var out []Peer
	for id, o := range t.owners.byID {
		if o != t.own && o.status != discovery.StatusLeft && !o.left() {
			out = append(out, Peer{ID: id, Addr: o.gossip, Status: o.status, Seen: !o.restored})
		}
	}
	return out
}
