package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// delegate is what memberlist calls. Most calls come with memberlist's locks
// held, or from the goroutine that reads the socket: none of them waits for
// anything or calls memberlist, they only note what happened.
type delegate struct {
	self    string // the own node's name
	meta    []byte
	admit   table.Admit // may be nil
	replica *replica
	inbox   *inbox
}

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte { return d.meta }

// NotifyMsg implements memberlist.Delegate. A message that finds the queue full
// is dropped: digests repair it.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) <= largest {
		d.inbox.putMessage(bytes.Clone(b))
	}
}

// GetBroadcasts implements memberlist.Delegate. Nothing of ours is broadcast:
// its retransmissions end before the last member is reached.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte {
	d.replica.mu.Lock()
	defer d.replica.mu.Unlock()
	return d.replica.x.Digest()
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if len(b) <= largest {
		d.inbox.putEvent(event{kind: digestReceived, bytes: bytes.Clone(b)})
	}
}

// AckPayload implements memberlist.PingDelegate.
func (d *delegate) AckPayload() []byte { return *d.replica.ack.Load() }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	d.inbox.putEvent(event{kind: probeAnswered, node: copyNode(n), rtt: rtt, bytes: bytes.Clone(payload)})
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.inbox.putEvent(event{kind: memberUp, node: copyNode(n)})
}

// NotifyUpdate implements memberlist.EventDelegate. A host that restarted
// before it was missed comes here, with another nonce.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	d.inbox.putEvent(event{kind: memberUp, node: copyNode(n)})
}

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.inbox.putEvent(event{kind: memberDown, node: copyNode(n)})
}

// NotifyConflict implements memberlist.ConflictDelegate. The name is the host
// id, so two addresses under one name mean a cloned host, or our own earlier
// life at another address; clones tells them apart.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == d.self {
		d.inbox.putEvent(event{kind: idTaken, node: copyNode(other)})
	}
}

var (
	errForgotten = errors.New("the host was forgotten")
	errStranger  = errors.New("the host is not registered in the pool")
)

// NotifyAlive implements memberlist.AliveDelegate: a forgotten host is no
// member at any incarnation, and one that the pool does not know is none yet.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	id, ok := hostID(n.Name)
	if !ok {
		return discovery.ErrMalformed
	}
	if d.replica.refuses(id) {
		d.inbox.putEvent(event{kind: refusedAlive, node: copyNode(n)})
		return errForgotten
	}
	if d.admit != nil && !d.admit(id, true) {
		return errStranger
	}
	return nil
}

func copyNode(n *memberlist.Node) memberlist.Node {
	c := *n
	c.Addr, c.Meta = bytes.Clone(n.Addr), bytes.Clone(n.Meta)
	return c
}

func hostID(name string) (id discovery.HostID, ok bool) {
	if len(name) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(name))
	return id, err == nil
}

func addrPort(n memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}
