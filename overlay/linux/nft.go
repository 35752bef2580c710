package linux

import (
	"context"
	"errors"
	"fmt"
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

// nftTables are our nftables tables, one in each namespace. What the kernel has
// in them is translated back to text, so that an edit by hand shows as such.
type nftTables struct {
	host, fabric *nftSpace
}

// openTables opens a socket in each namespace.
func openTables(host, fabric *os.File) (*nftTables, error) {
	h, err := openNFT(host, overlay.Host, nftables.Table{Name: "weft", Family: nftables.TableFamilyINet})
	if err != nil {
		return nil, err
	}
	f, err := openNFT(fabric, overlay.Fabric, nftables.Table{Name: "weft", Family: nftables.TableFamilyBridge})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return &nftTables{h, f}, nil
}

func (t *nftTables) close() error { return errors.Join(t.host.close(), t.fabric.close()) }

// list returns our tables and the elements of their sets.
func (t *nftTables) list(ctx context.Context) (all []overlay.Object, err error) {
	for _, s := range []*nftSpace{t.host, t.fabric} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		objects, err := s.list()
		if err != nil {
			return nil, fmt.Errorf("list nftables in the %s namespace: %w", s.place, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}

// put installs tables, each in one transaction with the elements that it had
// and those among objects, and then adds the other elements. One that fails
// stops no other; the error holds an *overlay.ObjectError for each.
func (t *nftTables) put(ctx context.Context, objects ...overlay.Object) error {
	return errors.Join(t.host.put(ctx, objects), t.fabric.put(ctx, objects))
}

// delete removes elements and tables. An absent one is no error.
func (t *nftTables) delete(ctx context.Context, objects ...overlay.Object) error {
	return errors.Join(t.host.delete(ctx, objects), t.fabric.delete(ctx, objects))
}

// nftSpace is our table in one namespace.
type nftSpace struct {
	place overlay.Place
	table nftables.Table
	ns    *os.File
	port  atomic.Uint32 // netlink address of conn, in the notifications of what we did

	mu   sync.Mutex // one transaction or list at a time
	conn *nftables.Conn
	sock *netlink.Conn // below conn

	supplanted []overlay.NFElement // by the put under way
}

func openNFT(ns *os.File, place overlay.Place, table nftables.Table) (*nftSpace, error) {
	s := &nftSpace{ns: ns, place: place, table: table}
	return s, s.dial()
}

func (s *nftSpace) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.CloseLasting()
}

// dial opens a socket whose buffers hold a whole transaction: the kernel takes
// one in a single message and answers to each part of it before we read.
func (s *nftSpace) dial() (err error) {
	s.conn, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(s.ns.Fd())),
		nftables.WithSockOptions(func(c *netlink.Conn) error {
			port, err := netlinkPort(c)
			s.port.Store(port)
			s.sock = c
			return errors.Join(err, c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
		}))
	if err != nil {
		return fmt.Errorf("open nftables socket in the %s namespace: %w", s.place, err)
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
func (s *nftSpace) flush() error {
	s.hurry()
	err := s.conn.Flush()
	if err == nil {
		return nil
	}
	return errors.Join(err, s.redial())
}

// hurry bounds the wait for replies: short of memory, the kernel answers to a
// transaction once and not to each of its parts.
func (s *nftSpace) hurry() { _ = s.sock.SetReadDeadline(time.Now().Add(receiveTimeout * time.Second)) }

// redial drops what was not sent or not read.
func (s *nftSpace) redial() error { return errors.Join(s.conn.CloseLasting(), s.dial()) }

// list returns the table, if there is one, and its elements.
func (s *nftSpace) list() ([]overlay.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.dump()
	if err != nil || !d.found {
		return nil, err
	}
	objects := make([]overlay.Object, 0, 1+len(d.elements))
	objects = append(objects, overlay.NFTable{Place: s.place, Family: s.family(), Name: s.table.Name, Rules: d.rules.String()})
	for _, e := range d.elements {
		objects = append(objects, e)
	}
	return objects, nil
}

func (s *nftSpace) family() string {
	if s.table.Family == nftables.TableFamilyBridge {
		return "bridge"
	}
	return "inet"
}

// nftDump is what the kernel has in our table.
type nftDump struct {
	found    bool
	rules    ruleset
	elements []overlay.NFElement
}

// dump reads the table. One that is deleted meanwhile is not found.
func (s *nftSpace) dump() (d nftDump, err error) {
	if d.found, d.rules.flags, err = s.find(); err != nil || !d.found {
		return d, err
	}
	err = errors.Join(s.dumpSets(&d), s.dumpChains(&d))
	if err == nil {
		return d, nil
	}
	if again := s.redial(); again != nil {
		return d, errors.Join(err, again)
	}
	if found, _, again := s.find(); again == nil && !found {
		return nftDump{}, nil
	}
	return d, err
}

// has looks for a table that may be another program's.
func (s *nftSpace) has(table nftables.Table) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurry()
	tables, err := s.conn.ListTablesOfFamily(table.Family)
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == table.Name }), err
}

// find looks for the table.
func (s *nftSpace) find() (found bool, flags uint32, err error) {
	s.hurry()
	tables, err := s.conn.ListTablesOfFamily(s.table.Family)
	for _, t := range tables {
		if t.Name == s.table.Name && t.Family == s.table.Family {
			return true, t.Flags, err
		}
	}
	return false, 0, err
}

func (s *nftSpace) dumpSets(d *nftDump) error {
	sets, err := s.conn.GetSets(&s.table)
	if err != nil {
		return err
	}
	for _, set := range sets {
		raw, err := s.conn.GetSetElements(set)
		if err != nil {
			return err
		}
		elements, odd := decodeElements(s.place, set, raw)
		d.elements = append(d.elements, elements...)
		d.rules.sets = append(d.rules.sets, ruleSet{
			name: set.Name, typ: set.KeyType.Name, data: set.DataType.Name, interval: set.Interval, odd: oddities(set, odd),
		})
	}
	return nil
}

// oddities says in what a set differs from all of ours.
func oddities(set *nftables.Set, elements int) string {
	plain := nftables.Set{Table: set.Table, ID: set.ID, Name: set.Name, Interval: set.Interval, KeyType: set.KeyType,
		IsMap: set.IsMap, DataType: set.DataType}
	switch {
	case *set != plain:
		return "# with other flags"
	case elements > 0:
		return fmt.Sprintf("# with %d other elements", elements)
	}
	return ""
}

func (s *nftSpace) dumpChains(d *nftDump) error {
	chains, err := s.conn.ListChainsOfTableFamily(s.table.Family)
	if err != nil {
		return err
	}
	for _, c := range chains {
		if c.Table.Name != s.table.Name {
			continue
		}
		rules, err := s.conn.GetRules(&s.table, c)
		if err != nil {
			return err
		}
		chain := ruleChain{name: c.Name, base: baseText(c)}
		for _, r := range rules {
			chain.rules = append(chain.rules, decompile(r.Exprs))
		}
		d.rules.chains = append(d.rules.chains, chain)
	}
	return nil
}
