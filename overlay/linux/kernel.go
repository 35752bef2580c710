// Package linux is the running kernel of overlay: it lists, makes and removes
// links, addresses, routes, entries and filters by netlink. It keeps no desired
// state. It runs two programs: nft(8), which translates the rules of the packet
// filter, and iptables(8), only where another one has made a filter with it.
package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// Config says where the overlay lives.
type Config struct {
	// Fabric is the namespace of bridges and tunnel devices: a path, or a name
	// below /run/netns. Empty means "weft".
	Fabric string
	// Host is the path of the namespace in which the host's packets travel.
	// Empty means the caller's own.
	Host string
	// Uplinks are the devices on which endpoints reach the world, and which
	// therefore forward. Empty means those of the default routes and of the
	// VTEP.
	Uplinks []string
	Log     *slog.Logger
}

// Kernel implements overlay.Kernel. Its methods are safe for concurrent use.
type Kernel struct {
	path    string
	uplinks []string
	log     *slog.Logger
	host    *space
	fabric  *space
	nft     *nft.Tables
	guards  atomic.Pointer[[]overlay.Guard] // that the last List found
}

var _ overlay.Kernel = (*Kernel)(nil)

// Open opens the fabric namespace, or makes it. The error is os.ErrPermission
// without CAP_NET_ADMIN and CAP_SYS_ADMIN.
func Open(cfg Config) (*Kernel, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Kernel{path: FabricPath(cfg.Fabric), uplinks: cfg.Uplinks, log: cfg.Log}
	if err := MakeFabric(k.path); err != nil {
		return nil, err
	}
	if cfg.Host == "" {
		cfg.Host = "/proc/thread-self/ns/net"
	}
	if err := k.open(cfg.Host); err != nil {
		return nil, errors.Join(fmt.Errorf("open the kernel: %w", err), k.Close())
	}
	k.raiseNeighbourLimits()
	return k, nil
}

func (k *Kernel) open(host string) (err error) {
	if k.host, err = openSpace(host); err != nil {
		return err
	}
	if k.fabric, err = openSpace(k.path); err != nil {
		return err
	}
	if err = k.openFilter(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// Close releases the sockets. What is in the kernel stays.
func (k *Kernel) Close() error {
	var errs []error
	for _, s := range []*space{k.host, k.fabric} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if k.nft != nil {
		errs = append(errs, k.nft.Close())
	}
	return errors.Join(errs...)
}

// FabricPath returns the file of the fabric namespace, for setns(2).
func (k *Kernel) FabricPath() string { return k.path }

func (k *Kernel) space(p overlay.Place) *space {
	if p == overlay.Fabric {
		return k.fabric
	}
	return k.host
}

// Put makes each object so.
func (k *Kernel) Put(ctx context.Context, objects ...overlay.Object) error {
	return k.apply(ctx, objects, false)
}

// Delete removes each object; an absent one is no error.
func (k *Kernel) Delete(ctx context.Context, objects ...overlay.Object) error {
	return k.apply(ctx, objects, true)
}

// class says by which path an object goes to the kernel. Neighbours in a list
// that share a class go together.
type class int

const (
	byNFT class = iota
	byProc
	byLink
	byRoute
	byBatch
	byProgram
)

func classOf(o overlay.Object) class {
	switch o.(type) {
	case overlay.Sysctl:
		return byProc
	case overlay.Link, overlay.BridgePort:
		return byLink
	case overlay.Route:
		return byRoute
	case overlay.Accept:
		return byProgram
	case overlay.Addr, overlay.FDB, overlay.BridgeFDB, overlay.Neigh:
		return byBatch
	}
	return byNFT
}

func (k *Kernel) apply(ctx context.Context, objects []overlay.Object, deleting bool) error {
	var errs []error
	for len(objects) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		n := 1
		for n < len(objects) && together(objects[0], objects[n]) {
			n++
		}
		errs = append(errs, k.applyClass(ctx, objects[:n], deleting)...)
		objects = objects[n:]
	}
	return errors.Join(errs...)
}

func together(a, b overlay.Object) bool {
	c := classOf(a)
	return c == classOf(b) && (c != byBatch || placeOf(a) == placeOf(b))
}

func (k *Kernel) applyClass(ctx context.Context, objects []overlay.Object, deleting bool) []error {
	switch classOf(objects[0]) {
	case byBatch:
		return k.entries(objects, deleting)
	case byProc:
		return k.sysctls(objects, deleting)
	case byNFT:
		return []error{k.filter(ctx, objects, deleting)}
	}
	var errs []error
	for _, o := range objects {
		if err := k.applyOne(o, deleting); err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Deleting: deleting, Err: err})
		}
	}
	return errs
}

func (k *Kernel) applyOne(o overlay.Object, deleting bool) error {
	switch o := o.(type) {
	case overlay.Link:
		if deleting {
			return k.space(o.Place).deleteLink(o.Name)
		}
		return k.putLink(o)
	case overlay.BridgePort:
		if deleting {
			return k.deletePort(o)
		}
		return k.putPort(o)
	case overlay.Route:
		if deleting {
			return k.deleteRoute(o)
		}
		return k.putRoute(o)
	case overlay.Accept:
		if deleting {
			return k.deleteAccept(o)
		}
		return k.putAccept(o)
	}
	return fmt.Errorf("no such kind of object: %T", o)
}

// Identify returns the cookie of the namespace at path (SO_NETNS_COOKIE,
// socket(7)), os.ErrNotExist when there is none, errors.ErrUnsupported before
// Linux 5.14.
func (k *Kernel) Identify(_ context.Context, path string) (cookie uint64, err error) {
	ns, err := openNetns(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	err = within(ns, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(err, unix.ENOPROTOOPT) {
			return fmt.Errorf("SO_NETNS_COOKIE: %w", errors.ErrUnsupported)
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return cookie, err
}
