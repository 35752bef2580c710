package gossip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// quota is how much may be under way at once over TCP before memberlist has looked at
// the key: it reads a whole message first.
type quota struct{ conns, bytes int }

var (
	ofStranger = quota{8, 4 << 20}   // one address at which no member is
	ofAll      = quota{128, 8 << 20} // all of those together
	ofMember   = quota{64, 24 << 20} // one member: memberlist takes 20 MB of one
)

// gate keeps what strangers send to the gossip port from filling this host.
type gate struct {
	member  func(netip.Addr) bool // a member is there; may be nil
	refused func(netip.Addr)      // a connection was refused or cut; may be nil

	mu        sync.Mutex // guards what follows
	sources   map[netip.Addr]quota
	strangers quota // of them, used
}

var errQuota = errors.New("too much at once from one source")

// enter returns conn, to be read within the quota of its source; nil: it has too many
// already, and conn is closed.
func (g *gate) enter(conn net.Conn, from netip.Addr) net.Conn {
	c := &gated{Conn: conn, gate: g, from: from, limit: ofStranger}
	if g.member != nil && g.member(from) {
		c.limit, c.member = ofMember, true
	}
	if !g.take(c, quota{conns: 1}) {
		_ = conn.Close()
		return nil
	}
	return c
}

// take counts what a connection uses more, unless it is too much.
func (g *gate) take(c *gated, more quota) bool {
	g.mu.Lock()
	used := g.sources[c.from].plus(more)
	ok := used.within(c.limit)
	if !c.member {
		ok = ok && g.strangers.plus(more).within(ofAll)
	}
	if ok {
		g.count(c, more)
	}
	g.mu.Unlock()
	if !ok && g.refused != nil {
		g.refused(c.from)
	}
	return ok
}

// count adds to what is used; g.mu is held.
func (g *gate) count(c *gated, more quota) {
	if g.sources == nil {
		g.sources = map[netip.Addr]quota{}
	}
	c.used = c.used.plus(more)
	if g.sources[c.from] = g.sources[c.from].plus(more); g.sources[c.from] == (quota{}) {
		delete(g.sources, c.from)
	}
	if !c.member {
		g.strangers = g.strangers.plus(more)
	}
}

func (q quota) plus(o quota) quota  { return quota{q.conns + o.conns, q.bytes + o.bytes} }
func (q quota) within(o quota) bool { return q.conns <= o.conns && q.bytes <= o.bytes }

// gated is a connection whose bytes count until it is closed.
type gated struct {
	net.Conn
	gate   *gate
	from   netip.Addr
	limit  quota
	member bool
	used   quota // guarded by gate.mu
}

// Read implements net.Conn.
func (c *gated) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.gate.take(c, quota{bytes: n}) {
		return 0, errQuota
	}
	return n, err
}

// Close implements net.Conn.
func (c *gated) Close() error {
	c.gate.mu.Lock()
	c.gate.count(c, quota{-c.used.conns, -c.used.bytes})
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
