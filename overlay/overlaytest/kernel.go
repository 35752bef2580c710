// Package overlaytest is a kernel in memory for tests of overlay and of those
// who use it, and the states that every kernel has to go through. It forwards
// no packets.
package overlaytest

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/weft-net/weft/overlay"
)

// Kernel is a kernel in memory. It prints itself as the commands that would
// make it, and behaves as the real one where that matters to its user: an
// object needs its device and goes with it. The zero value is not ready; use
// New.
type Kernel struct {
	// Fail is asked before each object is put or deleted, and each endpoint
	// plugged (as its fabric link); its error is the kernel's answer. May be nil.
	Fail func(o overlay.Object, deleting bool) error
	// Guard are the chains of other packet filters that the host has.
	Guard []overlay.Guard
	// Surroundings are what else the host has.
	Surroundings overlay.Surroundings

	mu        sync.Mutex
	objects   map[overlay.Key]overlay.Object
	plugged   map[string]overlay.Endpoint
	sandboxes map[string]uint64
	commands  []string
	lists     int
	altered   map[string][]string
	changes   chan struct{}
}

var _ overlay.Kernel = (*Kernel)(nil)

// New returns a kernel with nothing in it.
func New() *Kernel {
	return &Kernel{
		objects:   map[overlay.Key]overlay.Object{},
		plugged:   map[string]overlay.Endpoint{},
		sandboxes: map[string]uint64{},
		altered:   map[string][]string{},
		changes:   make(chan struct{}, 1),
	}
}

// String is everything in the kernel as commands, sorted, one a line.
func (k *Kernel) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Text(slices.Collect(maps.Values(k.objects)))
}

// Text is objects as commands, sorted, one a line. Settings of the host are
// left out: they stay until Clean.
func Text(objects []overlay.Object) string {
	var lines []string
	for _, o := range objects {
		if s, ok := o.(overlay.Sysctl); ok && (s.ConfDevice() == "" || strings.HasPrefix(s.ConfDevice(), "eth")) {
			continue
		}
		lines = append(lines, o.String()+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Commands returns what was put and deleted since the last call, in order, and
// forgets it.
func (k *Kernel) Commands() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.commands
	k.commands = nil
	return c
}

// Lists returns how often the whole kernel was read.
func (k *Kernel) Lists() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lists
}

// Inject puts an object as somebody else would, and Remove takes one away.
func (k *Kernel) Inject(o overlay.Object) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.objects[o.Key()] = o
	k.signal()
}

// Remove deletes an object, with what stands on it, behind our back.
func (k *Kernel) Remove(key overlay.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(key)
	k.signal()
}

// Alter says how an endpoint's interface differs, until it is plugged again.
func (k *Kernel) Alter(id string, differences ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.altered[id] = differences
}

// Inspect returns what Alter said.
func (k *Kernel) Inspect(_ context.Context, ep overlay.Endpoint) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.altered[ep.ID], nil
}

// AddSandbox makes a network namespace with a cookie at a path.
func (k *Kernel) AddSandbox(path string, cookie uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sandboxes[path] = cookie
}

// RemoveSandbox removes a network namespace and the links into it.
func (k *Kernel) RemoveSandbox(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.sandboxes, path)
	for id, ep := range k.plugged {
		if ep.Sandbox == path {
			k.unplug(id)
		}
	}
	k.signal()
}

// List returns everything.
func (k *Kernel) List(context.Context) ([]overlay.Object, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lists++
	return slices.Collect(maps.Values(k.objects)), nil
}

// Put makes each object so.
func (k *Kernel) Put(_ context.Context, objects ...overlay.Object) error {
	return k.each(objects, false, k.put)
}

// Delete removes each object and what stands on it.
func (k *Kernel) Delete(_ context.Context, objects ...overlay.Object) error {
	return k.each(objects, true, func(o overlay.Object) error {
		k.remove(o.Key())
		return nil
	})
}

func (k *Kernel) each(objects []overlay.Object, deleting bool, do func(overlay.Object) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.signal()
	var errs []error
	for _, o := range objects {
		k.commands = append(k.commands, overlay.Command(o, deleting))
		err := k.fail(o, deleting)
		if err == nil {
			err = do(o)
		}
		if err != nil {
			errs = append(errs, &overlay.ObjectError{Object: o, Deleting: deleting, Err: err})
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) fail(o overlay.Object, deleting bool) error {
	if k.Fail == nil {
		return nil
	}
	return k.Fail(o, deleting)
}

func (k *Kernel) put(o overlay.Object) error {
	if l, ok := o.(overlay.Link); ok {
		return k.putLink(l)
	}
	if dev, ok := overlay.DeviceOf(o); ok && !k.has(dev) {
		return syscall.ENODEV
	}
	k.objects[o.Key()] = o
	return nil
}

func (k *Kernel) has(dev overlay.LinkKey) bool {
	return k.objects[dev] != nil || dev.Place == overlay.Host && strings.HasPrefix(dev.Name, "eth")
}

func (k *Kernel) putLink(l overlay.Link) error {
	old, exists := k.objects[l.Key()].(overlay.Link)
	if exists && old.Kind == overlay.Foreign {
		return overlay.ForeignDevice(overlay.LinkKey{Place: old.Place, Name: old.Name}, old.Other)
	}
	if exists && l.Replaces(old) {
		k.remove(l.Key())
		exists = false
	}
	if exists {
		k.objects[l.Key()] = l
		return nil
	}
	switch l.Kind {
	case overlay.GatewayPeer, overlay.EndpointPeer:
		return syscall.ENODEV // made together with the other end
	case overlay.Gateway:
		peer := overlay.Link{Place: overlay.Fabric, Name: l.Peer, Kind: overlay.GatewayPeer, Peer: l.Name, Other: "down"}
		k.objects[peer.Key()] = peer
	}
	k.objects[l.Key()] = l
	return nil
}

// remove takes an object away. With a device goes what stands on it and its
// other end.
func (k *Kernel) remove(key overlay.Key) {
	gone, isLink := k.objects[key].(overlay.Link)
	delete(k.objects, key)
	if !isLink {
		return
	}
	for other, o := range k.objects {
		if dev, ok := overlay.DeviceOf(o); ok && dev == gone.Key() {
			delete(k.objects, other)
		}
		if p, ok := o.(overlay.BridgePort); ok && p.Bridge == gone.Name {
			delete(k.objects, other)
		}
		if e, ok := o.(overlay.BridgeFDB); ok && e.Bridge == gone.Name {
			delete(k.objects, other)
		}
	}
	if gone.Kind == overlay.Gateway {
		k.remove(overlay.LinkKey{Place: overlay.Fabric, Name: gone.Peer})
	}
}

// Plug makes the endpoint's link as a port of its network's bridge.
func (k *Kernel) Plug(_ context.Context, ep overlay.Endpoint) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.signal()
	bridge, ok := k.objects[overlay.LinkKey{Place: overlay.Fabric, Name: overlay.BridgeName(ep.VNI)}].(overlay.Link)
	if !ok {
		return syscall.ENODEV
	}
	l := overlay.Link{
		Place: overlay.Fabric, Name: overlay.EndpointName(ep.ID), Kind: overlay.EndpointPeer, MTU: ep.MTU,
		Group: bridge.Group, Alias: overlay.EndpointAlias(ep.Cluster, ep.Network, ep.ID),
	}
	if err := k.fail(l, false); err != nil {
		return err
	}
	if _, known := k.sandboxes[ep.Sandbox]; !known && ep.Sandbox != "" {
		return fs.ErrNotExist
	}
	k.plugged[ep.ID] = ep
	delete(k.altered, ep.ID)
	k.objects[l.Key()] = l
	port := overlay.BridgePort{Dev: l.Name, Bridge: bridge.Name, MulticastFlood: true}
	k.objects[port.Key()] = port
	return nil
}

// Unplug removes the endpoint's link.
func (k *Kernel) Unplug(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.signal()
	k.unplug(id)
	return nil
}

func (k *Kernel) unplug(id string) {
	delete(k.plugged, id)
	k.remove(overlay.LinkKey{Place: overlay.Fabric, Name: overlay.EndpointName(id)})
}

// Plugged returns the ids of the endpoints whose link exists.
func (k *Kernel) Plugged(context.Context) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.plugged)), nil
}

// Announce is a command.
func (k *Kernel) Announce(_ context.Context, all ...overlay.Announcement) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range all {
		k.commands = append(k.commands, a.String())
	}
	return nil
}

// Identify returns the cookie given to AddSandbox.
func (k *Kernel) Identify(_ context.Context, sandbox string) (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cookie, ok := k.sandboxes[sandbox]
	if !ok {
		return 0, &fs.PathError{Op: "open network namespace", Path: sandbox, Err: fs.ErrNotExist}
	}
	return cookie, nil
}

// Uplinks is always eth0.
func (k *Kernel) Uplinks(context.Context, netip.Addr) (overlay.Uplinks, error) {
	return overlay.Uplinks{Devices: []string{"eth0"}}, nil
}

// Bridges is always docker0.
func (k *Kernel) Bridges(context.Context) ([]string, error) { return []string{"docker0"}, nil }

// Guards returns Guard.
func (k *Kernel) Guards(context.Context) ([]overlay.Guard, error) { return k.Guard, nil }

// Around returns Surroundings.
func (k *Kernel) Around(context.Context, overlay.Interest) (overlay.Surroundings, error) {
	return k.Surroundings, nil
}

// Changes signals after every change, our own too. Only one Overlay may listen.
func (k *Kernel) Changes(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-k.changes:
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out
}

func (k *Kernel) signal() {
	select {
	case k.changes <- struct{}{}:
	default:
	}
}

// Clean removes everything.
func (k *Kernel) Clean(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.objects)
	clear(k.plugged)
	return nil
}
