// Package linux is the running kernel of overlay: it lists, makes and removes
// links, addresses, routes, entries and filters by netlink. It keeps no desired
// state. It runs two programs: nft(8), which translates the rules of the packet
// filter, and iptables(8), only where another one has made a filter with it.
package linux

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
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
	path         string // of the fabric namespace
	log          *slog.Logger
	host, fabric *space
	links        *links
	entries      entries
	settings     *settings
	facts        *facts
	quiet        *quiet
	nft          *nft.Tables
	guards       atomic.Pointer[[]overlay.Guard] // that the last List found
	needs        atomic.Pointer[[]overlay.Need]  // nil until they were tried
	tried        chan struct{}                   // closed then
}

var _ overlay.Kernel = (*Kernel)(nil)

// report has the netlink library ask for the kernel's own sentence with an error,
// and wait no longer for an answer than we do, on the sockets that it opens for
// one request.
var report = sync.OnceFunc(func() {
	nl.EnableErrorMessageReporting = true
	nl.SocketTimeoutTv = unix.NsecToTimeval(netns.Timeout.Nanoseconds())
})

// Open opens the fabric namespace, or makes it. The error is os.ErrPermission
// without CAP_NET_ADMIN and CAP_SYS_ADMIN.
func Open(cfg Config) (*Kernel, error) {
	report()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Kernel{path: FabricPath(cfg.Fabric), log: cfg.Log, tried: make(chan struct{})}
	go k.tryNeeds()
	if err := MakeFabric(k.path); err != nil {
		return nil, err
	}
	if err := k.open(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open the kernel: %w", err), k.Close())
	}
	if err := k.settings.mark(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	k.settings.raiseNeighbourLimits()
	return k, nil
}

func (k *Kernel) open(cfg Config) (err error) {
	if k.host, err = openSpace(cfg.Host); err != nil {
		return err
	}
	if k.fabric, err = openSpace(k.path); err != nil {
		return err
	}
	k.fabric.place = overlay.Fabric
	if err = k.openFilter(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	k.links = &links{host: k.host, fabric: k.fabric, log: k.log}
	k.entries = entries{fabric: k.fabric}
	k.settings = &settings{host: k.host, fabric: k.fabric, log: k.log}
	k.facts = &facts{host: k.host, uplinks: cfg.Uplinks}
	k.quiet = &quiet{host: k.host, fabric: k.fabric, path: k.path, seed: maphash.MakeSeed()}
	return nil
}

// Close releases the sockets. What is in the kernel stays.
func (k *Kernel) Close() error {
	<-k.tried
	var errs []error
	for _, s := range []*space{k.host, k.fabric} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if k.nft != nil {
		errs = append(errs, k.nft.Close())
	}
	if k.quiet != nil {
		k.quiet.close()
	}
	return errors.Join(errs...)
}

// tryNeeds tries what the kernel has. Nothing waits for it.
func (k *Kernel) tryNeeds() {
	defer close(k.tried)
	ctx, cancel := context.WithTimeout(context.Background(), netns.Timeout)
	defer cancel()
	all := Needs(ctx)
	for _, n := range all {
		if n.Err != nil {
			k.log.Warn("the kernel lacks something", "module", n.Module, "since", n.Since, "for", n.For, "err", n.Err)
		}
	}
	k.needs.Store(&all)
}

// Needs returns what weft uses of the kernel, and what of it is missing, as it was when
// the Kernel was opened; nil until that is known.
func (k *Kernel) Needs() []overlay.Need {
	if all := k.needs.Load(); all != nil {
		return *all
	}
	return nil
}

// FabricPath returns the file of the fabric namespace, for setns(2).
func (k *Kernel) FabricPath() string { return k.path }

// FabricPath returns the file of a fabric namespace given by name or path.
func FabricPath(fabric string) string {
	if fabric == "" {
		fabric = "weft"
	}
	if filepath.IsAbs(fabric) {
		return fabric
	}
	return filepath.Join("/run/netns", fabric)
}

// MakeFabric makes the fabric namespace unless it is there. It may be called by
// several processes at once.
func MakeFabric(path string) error {
	err := netns.Make(path)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("make fabric namespace %w here, so it has to be made outside: systemctl restart agentd does that", err)
	}
	return wrap(err, "make fabric namespace")
}

// nameFabric mounts the fabric again. A sandboxed service cannot: what it mounts
// nobody else sees.
func (k *Kernel) nameFabric() error {
	err := netns.Name(k.path, k.fabric.ns)
	if errors.Is(err, unix.EROFS) {
		// In process 1's mount namespace: that of the host.
		return &overlay.Remedy{Err: err, Command: fmt.Sprintf("nsenter --target 1 --mount mount --bind /proc/%d/fd/%d %s # before the agent ends, and the fabric with it",
			os.Getpid(), k.fabric.ns.Fd(), k.path)}
	}
	return err
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
	byOne
	byBatch
)

func classOf(o overlay.Object) class {
	switch o.(type) {
	case overlay.Sysctl:
		return byProc
	case overlay.Link, overlay.BridgePort, overlay.Addr, overlay.Route, overlay.Prohibit, overlay.Accept, overlay.Mount:
		return byOne
	case overlay.FDB, overlay.BridgeFDB, overlay.Neigh:
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
		if c := classOf(objects[0]); c == byProc || c == byOne {
			k.quiet.put()
		}
		n := 1
		for n < len(objects) && classOf(objects[0]) == classOf(objects[n]) {
			n++
		}
		errs = append(errs, k.applyClass(ctx, objects[:n], deleting)...)
		objects = objects[n:]
	}
	return errors.Join(errs...)
}

func (k *Kernel) applyClass(ctx context.Context, objects []overlay.Object, deleting bool) []error {
	switch classOf(objects[0]) {
	case byBatch:
		return k.entries.apply(objects, deleting)
	case byProc:
		return k.settings.apply(objects, deleting)
	case byNFT:
		return []error{k.filter(ctx, objects, deleting)}
	}
	var errs []error
	one := k.putOne
	if deleting {
		one = k.deleteOne
	}
	for _, o := range objects {
		if err := one(o); err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Deleting: deleting, Err: err})
		}
	}
	return errs
}

func (k *Kernel) putOne(o overlay.Object) error {
	switch o := o.(type) {
	case overlay.Link:
		return k.links.put(o)
	case overlay.BridgePort:
		return k.links.putPort(o)
	case overlay.Addr:
		return k.host.putAddress(o)
	case overlay.Route:
		return k.host.putRoute(o)
	case overlay.Prohibit:
		return k.host.putProhibit(o)
	case overlay.Accept:
		return k.putAccept(o)
	case overlay.Mount:
		return k.nameFabric()
	}
	return fmt.Errorf("no such kind of object: %T", o)
}

func (k *Kernel) deleteOne(o overlay.Object) error {
	switch o := o.(type) {
	case overlay.Link:
		return k.links.space(o.Place).deleteLink(o.Name)
	case overlay.BridgePort:
		return k.links.deletePort(o)
	case overlay.Addr:
		return k.host.deleteAddress(o)
	case overlay.Route:
		return k.host.deleteRoute(o)
	case overlay.Prohibit:
		return k.host.deleteProhibit(o)
	case overlay.Accept:
		return k.deleteAccept(o)
	}
	return fmt.Errorf("no such kind of object: %T", o)
}

// Identify returns the cookie of the namespace at path, os.ErrNotExist when
// there is none, errors.ErrUnsupported before Linux 5.14.
func (k *Kernel) Identify(_ context.Context, path string) (uint64, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return netns.Cookie(ns)
}

// Underlay returns the device that holds addr and the largest packet that it
// sends in bytes: the device's MTU, or that of a route over it if smaller. The
// error is os.ErrNotExist when no device holds the address.
func (k *Kernel) Underlay(addr netip.Addr) (mtu int, dev string, err error) {
	return k.host.holder(addr)
}

// Uplinks returns the devices of the default routes and of the VTEP, sorted, or
// those that were configured.
func (k *Kernel) Uplinks(_ context.Context, vtep netip.Addr) (overlay.Uplinks, error) {
	u, err := k.facts.uplinksOf(vtep)
	k.quiet.watchUplinks(u.Devices)
	return u, err
}

// Bridges returns the bridges all of whose ports are the near ends of veths or
// devices of virtual machines: what is behind them is on this host. One without
// ports is among them.
func (k *Kernel) Bridges(context.Context) ([]string, error) {
	all, err := k.host.links()
	if err != nil {
		return nil, err
	}
	return localBridges(all), nil
}
