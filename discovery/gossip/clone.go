package gossip

import (
	"net/netip"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
)

// clones tells an instance that runs under this host's id from this host's own
// earlier address.
type clones struct {
	self     discovery.HostID
	nonce    uint64
	conflict func(other netip.AddrPort) // may be nil
	replica  *replica
	contacts *contacts
}

// check looks whether another instance really runs under our id. After a change of
// our own address the members still show the old one, where nobody answers any
// more. A running one is reported by the newcomer; if both have run for long, by
// the one whose nonce is higher, so that one is left.
func (c *clones) check(other memberlist.Node) {
	at := addrPort(other)
	if c.conflict == nil || !c.contacts.answers(c.self, at) {
		return
	}
	m, err := parseMeta(other.Meta)
	if err != nil || m.nonce == c.nonce {
		return
	}
	if c.replica.established() && c.nonce < m.nonce {
		return
	}
	c.replica.log.Error("another instance runs under this host's id", "addr", at)
	c.conflict(at)
}
