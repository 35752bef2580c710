package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// space is a network namespace with netlink sockets in it. They belong to the
// namespace whichever thread uses them.
type space struct {
	ns      *os.File
	place   overlay.Place // the host's unless it is the fabric
	index   *indexTable
	watched atomic.Pointer[[]netip.Prefix] // routes to these concern us, whoever makes them

	// mu is held during each request: a dump would miss entries that stay while
	// others before them are deleted, and the kernel does not say so of an FDB.
	mu     sync.Mutex
	handle *netlink.Handle // nil in a sandbox
	raw    *requests
	closed bool
}

// openSpace opens the namespace at path; an empty one is the caller's.
func openSpace(path string) (*space, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	s := &space{ns: ns, index: newIndexTable()}
	if s.handle, err = netns.Handle(ns, unix.NETLINK_ROUTE); err == nil {
		s.raw, err = openRequests(ns)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openSandbox opens the namespace of an endpoint for what is asked for there.
func openSandbox(path string) (*space, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := openChanges(ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &space{ns: ns, index: newIndexTable(), raw: raw}, nil
}

// close waits for a request under way. A later one fails: the library would make
// it in the namespace of the calling thread.
func (s *space) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.handle != nil {
		s.handle.Close()
	}
	if s.raw != nil {
		s.raw.close()
	}
	return s.ns.Close()
}

// ask makes a request of the library that answers with a value.
func ask[T any](s *space, request func(*netlink.Handle) (T, error)) (value T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return value, fs.ErrClosed
	}
	return request(s.handle)
}

// do makes a request of the library that changes something. One that failed is
// made once more by a socket for it alone: the library asks for the kernel's
// sentence there, and on no socket of a handle.
func (s *space) do(request func(*netlink.Handle) error) error {
	_, err := ask(s, func(h *netlink.Handle) (struct{}, error) {
		err := request(h)
		if err != nil {
			err = netns.Within(s.ns, func() error { return request(&netlink.Handle{}) })
		}
		return struct{}{}, err
	})
	return err
}

// change makes a request of ours, or several that belong together.
func (s *space) change(request func(*requests) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fs.ErrClosed
	}
	return request(s.raw)
}

// dump makes a request for a whole table, and makes it again when the kernel
// says that the table changed meanwhile.
func dump[T any](s *space, list func(*netlink.Handle) (T, error)) (T, error) {
	return netns.Repeat(func() (T, error) { return ask(s, list) })
}

// links dumps the devices of a namespace.
func (s *space) links() ([]netlink.Link, error) {
	all, err := dump(s, func(h *netlink.Handle) ([]netlink.Link, error) { return h.LinkList() })
	if err == nil {
		s.index.reset(indexes(all))
	}
	return all, err
}

func indexes[L netlink.Link](all []L) map[string]int {
	m := make(map[string]int, len(all))
	for _, l := range all {
		m[l.Attrs().Name] = l.Attrs().Index
	}
	return m
}

// devices dumps the devices of a namespace with their settings.
func (s *space) devices() ([]device, error) {
	all, err := dump(s, func(*netlink.Handle) ([]device, error) { return s.raw.devices() })
	if err == nil {
		s.index.reset(indexes(all))
	}
	return all, err
}

// link finds one device by name; the error is ENODEV when there is none.
func (s *space) link(name string) (netlink.Link, error) {
	d, err := s.device(name)
	return d.Link, err
}

// device is link with what the library does not read.
func (s *space) device(name string) (d device, err error) {
	err = s.change(func(r *requests) (err error) {
		d, err = r.device(name)
		return err
	})
	if err == nil {
		s.index.set(name, d.Attrs().Index)
	}
	return d, err
}

// linkAt finds a device by its index. The error of the library has no number.
func (s *space) linkAt(index int) (netlink.Link, error) {
	return ask(s, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByIndex(index) })
}

// number returns the index of a device.
func (s *space) number(name string) (int, error) {
	if i, ok := s.index.get(name); ok {
		return i, nil
	}
	l, err := s.link(name)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// deleteLink removes a device of ours; an absent one is no error.
func (s *space) deleteLink(name string) error {
	l, err := s.link(name)
	s.index.drop(name)
	if err == nil {
		if err := refuse(s.place, l); err != nil {
			return err
		}
		err = s.do(func(h *netlink.Handle) error { return h.LinkDel(l) })
	}
	return absent(err, unix.ENODEV)
}

// indexTable remembers the indexes of a namespace's devices, so that an entry
// costs no look-up. A device made again behind our back shows as an error of its
// entries, after which everything is read anew.
type indexTable struct {
	mu      sync.Mutex // guards both
	index   map[string]int
	renamed map[string]int // that have another name, by the one that they should have
}

func newIndexTable() *indexTable { return &indexTable{index: map[string]int{}} }

func (n *indexTable) reset(all map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index = all
}

func (n *indexTable) get(name string) (int, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, ok := n.index[name]
	return i, ok
}

func (n *indexTable) set(name string, index int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.index[name] = index
}

func (n *indexTable) setRenamed(all map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.renamed = all
}

func (n *indexTable) getRenamed(name string) (int, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, ok := n.renamed[name]
	return i, ok
}

func (n *indexTable) drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.index, name)
}

// isOurs reports whether the device with an index has a name that we give.
func (n *indexTable) isOurs(index int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, i := range n.index {
		if i == index {
			return ours(name)
		}
	}
	return false
}

// absent turns the errors that say "there is no such thing" into success, for
// deletions.
func absent(err error, ok ...error) error {
	for _, e := range ok {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
