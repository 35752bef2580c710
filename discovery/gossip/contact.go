package gossip

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery"
)

// contacts reaches hosts at addresses, whether they are members or not.
type contacts struct {
	ml    *memberlist.Memberlist
	trans *transport
	label string
	work  *sync.WaitGroup
	count *counters
	log   *slog.Logger
}

// candidate is a host that should be a member and is not. The id is zero when
// only an address is known.
type candidate struct {
	id discovery.HostID
	at netip.AddrPort
}

// answers reports whether a member of that id answers a probe at the address.
func (c *contacts) answers(id discovery.HostID, at netip.AddrPort) bool {
	_, err := c.ml.Ping(id.String(), net.UDPAddrFromAddrPort(at))
	return err == nil
}

// probeTCP connects to a gossip port and hangs up. It says the label, so that a
// member takes it for a stream that ended and not for a stranger.
func (c *contacts) probeTCP(at netip.AddrPort, limit time.Duration) error {
	conn, err := c.trans.DialTimeout(at.String(), limit)
	if err != nil {
		return err
	}
	return errors.Join(memberlist.AddLabelHeaderToStream(conn, c.label), conn.Close())
}

// meet exchanges states with a host. Each side learns all members of the
// other, so one meeting heals a split.
func (c *contacts) meet(h candidate) error {
	name := "host"
	if !h.id.IsZero() {
		name = h.id.String()
	}
	_, err := c.ml.Join([]string{name + "/" + h.at.String()})
	if err == nil {
		c.count.rejoins.Add(1)
		c.log.Debug("contact with missing member", "addr", h.at)
	}
	return err
}

// tryMeet meets the host in a goroutine; another round follows if it fails.
func (c *contacts) tryMeet(h candidate) {
	c.work.Go(func() {
		if err := c.meet(h); err != nil {
			c.log.Debug("contact", "addr", h.at, "err", err)
		}
	})
}
