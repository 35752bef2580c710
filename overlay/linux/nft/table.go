package nft

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// table is our table in one namespace.
type table struct {
	place  overlay.Place
	def    nftables.Table
	ns     *os.File
	port   atomic.Uint32 // netlink address of conn, in the notifications of what we did
	guards []string
	// foreign are the chains of other programs that a packet of an endpoint meets, by
	// chainKey, as they were last read.
	foreign atomic.Pointer[map[string]bool]
	moved   func(came, gone []overlay.NFElement) error
	log     *slog.Logger

	mu       sync.Mutex // guards what follows: one transaction or list at a time
	conn     *nftables.Conn
	sock     *netlink.Conn // below conn
	made     *plan         // what put last made of the table, nil before
	replaced []overlay.NFElement
}

func open(cfg Config, ns *os.File, place overlay.Place, def nftables.Table) (*table, error) {
	t := &table{ns: ns, place: place, def: def, guards: cfg.Guards, moved: cfg.Moved, log: cfg.Log}
	return t, t.dial()
}

func (t *table) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conn.CloseLasting()
}

const (
	socketBuffer = 8 << 20
	replyTimeout = 15 * time.Second // the watchdog waits for 30
)

// dial opens a socket whose buffers hold a whole transaction: the kernel takes
// one in a single message and answers to each part of it before we read.
func (t *table) dial() (err error) {
	t.conn, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(t.ns.Fd())),
		nftables.WithSockOptions(func(c *netlink.Conn) error {
			port, err := netlinkPort(c)
			t.port.Store(port)
			t.sock = c
			return errors.Join(err, c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
		}))
	if err != nil {
		return fmt.Errorf("open nftables socket in the %s namespace: %w", t.place, err)
	}
	return nil
}

// netlinkPort is the address of a socket, which the kernel writes into the
// notifications of what was done through it (netlink(7), nl_pid).
func netlinkPort(c *netlink.Conn) (port uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = errors.Join(raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(int(fd)); err == nil {
			port = sa.(*unix.SockaddrNetlink).Pid
		}
	}), err)
	return port, err
}

// flush sends the transaction. After a failure replies may be left in the
// socket that would be taken for those to the next one: a new one is opened.
func (t *table) flush() error {
	t.setReadDeadline()
	err := t.conn.Flush()
	if err == nil {
		return nil
	}
	return errors.Join(err, t.redial())
}

// setReadDeadline bounds the wait for replies: short of memory, the kernel answers to a
// transaction once and not to each of its parts.
func (t *table) setReadDeadline() { _ = t.sock.SetReadDeadline(time.Now().Add(replyTimeout)) }

// redial drops what was not sent or not read.
func (t *table) redial() error { return errors.Join(t.conn.CloseLasting(), t.dial()) }

// list returns the table, if there is one, and its elements.
func (t *table) list() ([]overlay.Object, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, err := t.dump()
	if err != nil || !d.found {
		return nil, err
	}
	objects := make([]overlay.Object, 0, 1+len(d.elements))
	objects = append(objects, overlay.NFTable{Place: t.place, Family: t.family(), Name: t.def.Name, Rules: t.made.describe(d.content)})
	for _, e := range d.elements {
		objects = append(objects, e)
	}
	return objects, nil
}

func (t *table) family() string {
	if t.def.Family == nftables.TableFamilyBridge {
		return "bridge"
	}
	return "inet"
}

// dumped is what the kernel has in our table.
type dumped struct {
	found    bool
	content  content
	elements []overlay.NFElement
}

// dump reads the table. One that is deleted meanwhile is not found.
func (t *table) dump() (d dumped, err error) {
	if d.found, d.content.flags, err = t.find(); err != nil || !d.found {
		return d, err
	}
	err = errors.Join(t.dumpSets(&d), t.dumpChains(&d.content))
	if err == nil {
		return d, nil
	}
	if again := t.redial(); again != nil {
		return d, errors.Join(err, again)
	}
	if found, _, again := t.find(); again == nil && !found {
		return dumped{}, nil
	}
	return d, err
}

// has looks for a table that may be another program's.
func (t *table) has(other nftables.Table) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setReadDeadline()
	tables, err := t.conn.ListTablesOfFamily(other.Family)
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == other.Name }), err
}

// find looks for the table.
func (t *table) find() (found bool, flags uint32, err error) {
	t.setReadDeadline()
	tables, err := t.conn.ListTablesOfFamily(t.def.Family)
	for _, other := range tables {
		if other.Name == t.def.Name && other.Family == t.def.Family {
			return true, other.Flags, err
		}
	}
	return false, 0, err
}

// sets are those of the table; none if there is no table.
func (t *table) sets() (map[string]*nftables.Set, error) {
	found, _, err := t.find()
	if err != nil || !found {
		return nil, err
	}
	list, err := t.conn.GetSets(&t.def)
	if err != nil {
		return nil, errors.Join(err, t.redial())
	}
	sets := make(map[string]*nftables.Set, len(list))
	for _, set := range list {
		sets[set.Name] = set
	}
	return sets, nil
}

func (t *table) dumpSets(d *dumped) error {
	sets, err := t.conn.GetSets(&t.def)
	if err != nil {
		return err
	}
	for _, s := range sets {
		raw, err := t.conn.GetSetElements(s)
		if err != nil {
			return err
		}
		elements, unsupported := decodeElements(t.place, s, raw)
		d.elements = append(d.elements, elements...)
		d.content.sets = append(d.content.sets, set{def: *s, unsupported: unsupported})
	}
	return nil
}

// dumpChains reads the chains and, in one dump for all of them, their rules.
func (t *table) dumpChains(c *content) error {
	chains, err := t.conn.ListChainsOfTableFamily(t.def.Family)
	if err != nil {
		return err
	}
	rules, err := dumpRules(t.sock, t.def)
	if err != nil {
		return err
	}
	for _, ch := range chains {
		if ch.Table.Name == t.def.Name {
			c.chains = append(c.chains, chain{def: *ch, rules: rules[ch.Name]})
		}
	}
	return nil
}
