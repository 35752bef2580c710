package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Attach makes the endpoint's link and lets its packets through: when it
// returns, the endpoint reaches and is reached. It is idempotent for an equal
// Endpoint and leaves nothing behind when it fails. The network must be part
// of the State; the endpoint need not be, and stays until Detach.
func (o *Overlay) Attach(ctx context.Context, ep Endpoint) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.attach(ctx, ep)
}

func (o *Overlay) attach(ctx context.Context, ep Endpoint) error {
	n := o.network(ep.VNI)
	if n == nil {
		return fmt.Errorf("vni %d: %w", ep.VNI, ErrNoNetwork)
	}
	if err := o.dump(ctx); err != nil {
		return err
	}
	if taken := o.foreign(n); taken != nil {
		return ForeignDevice(taken[0], o.view.get(taken[0]).(Link).Other)
	}
	_, plugged := o.view.get(LinkKey{Fabric, EndpointName(ep.ID)}).(Link)
	link, rest := split(o.portObjects(n, ep.port()), func(w Object) bool { return w.Rank() > RankElement })
	// The tunnel device must fall silent about the address before the port goes
	// up, and the filter must know it.
	if err := o.deleteNow(ctx, o.remoteEntries(n, ep.port())); err != nil {
		return err
	}
	if err := o.putNow(ctx, rest); err != nil {
		return err
	}
	if err := o.kernel.Plug(ctx, ep); err != nil {
		return errors.Join(err, o.undo(ctx, ep.ID, rest, plugged))
	}
	made, entries := split(link, func(w Object) bool { return w.Rank() < RankEntry })
	for _, w := range made {
		o.view.set(w)
	}
	for _, w := range entries {
		o.view.drop(w) // gone with the link that a lost sandbox took along
	}
	if err := o.putNow(ctx, entries); err != nil {
		return errors.Join(err, o.undo(ctx, ep.ID, rest, plugged))
	}
	o.attached[ep.ID] = ep
	for _, a := range ep.Addrs {
		o.moves.came(Announcement{ep.VNI, a.Addr(), ep.MAC})
	}
	o.announce(ctx)
	return nil
}

// undo takes a half-made endpoint away, unless it was plugged before: a
// repeated Attach that fails must not cut a working one.
func (o *Overlay) undo(ctx context.Context, id string, filters []Object, plugged bool) error {
	if plugged {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	return errors.Join(o.unplug(ctx, id), o.deleteNow(ctx, filters))
}

// Detach removes the endpoint's link and what let its packets through. It
// returns nil if the endpoint is unknown, so that a retried request succeeds.
func (o *Overlay) Detach(ctx context.Context, id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, port := o.find(id)
	delete(o.attached, id)
	err := o.unplug(ctx, id)
	if n != nil {
		for _, a := range port.Addrs {
			o.moves.left(Announcement{n.VNI, a, port.MAC})
		}
		filters, _ := split(o.portObjects(n, port), func(w Object) bool { return w.Rank() <= RankElement })
		err = errors.Join(err, o.deleteNow(ctx, filters))
	}
	if err != nil {
		return fmt.Errorf("detach %s: %w", id, err)
	}
	return nil
}

// Attached returns the ids of the endpoints whose link exists now.
func (o *Overlay) Attached(ctx context.Context) ([]string, error) {
	ids, err := o.kernel.Plugged(ctx)
	if err != nil {
		return nil, fmt.Errorf("list endpoint links: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// Identify returns the cookie of the network namespace at a path
// (SO_NETNS_COOKIE, socket(7)): a namespace made again under the same name has
// another. The error is os.ErrNotExist when there is no namespace, and
// errors.ErrUnsupported before Linux 5.14.
func (o *Overlay) Identify(ctx context.Context, sandbox string) (uint64, error) {
	cookie, err := o.kernel.Identify(ctx, sandbox)
	if err != nil {
		return 0, fmt.Errorf("identify sandbox %s: %w", sandbox, err)
	}
	return cookie, nil
}

// Inspect returns how an endpoint's interface differs from what Attach made, in words:
// somebody in its sandbox may have changed it.
func (o *Overlay) Inspect(ctx context.Context, ep Endpoint) ([]string, error) {
	differences, err := o.kernel.Inspect(ctx, ep)
	if err != nil {
		return nil, fmt.Errorf("inspect %s in %s: %w", ep.Ifname, ep.Sandbox, err)
	}
	return differences, nil
}

func (o *Overlay) unplug(ctx context.Context, id string) error {
	err := o.kernel.Unplug(ctx, id)
	if err == nil {
		o.view.dropDevice(LinkKey{Fabric, EndpointName(id)})
	}
	return err
}

func (o *Overlay) network(vni uint32) *Network {
	for i := range o.state.Networks {
		if o.state.Networks[i].VNI == vni {
			return &o.state.Networks[i]
		}
	}
	return nil
}

// find returns an endpoint's network and port, nil if nobody told us of it.
func (o *Overlay) find(id string) (*Network, Port) {
	if ep, ok := o.attached[id]; ok {
		return o.network(ep.VNI), ep.port()
	}
	for i := range o.state.Networks {
		n := &o.state.Networks[i]
		for _, p := range n.Ports {
			if p.Endpoint == id {
				return n, p
			}
		}
	}
	return nil, Port{}
}

func (ep *Endpoint) port() Port {
	p := Port{Endpoint: ep.ID, MAC: ep.MAC}
	for _, a := range ep.Addrs {
		p.Addrs = append(p.Addrs, a.Addr())
	}
	return p
}

// portObjects are the objects that a port adds to its network.
func (o *Overlay) portObjects(n *Network, p Port) []Object {
	one := *n
	one.Ports, one.Remotes = []Port{p}, nil
	none := one
	none.Ports = nil
	s := State{Cluster: o.state.Cluster, VTEP: o.state.VTEP, Port: o.state.Port}
	s.Networks = []Network{none}
	others := map[Object]bool{}
	for _, w := range objects(s, facts{}) {
		others[w] = true
	}
	s.Networks = []Network{one}
	return slices.DeleteFunc(objects(s, facts{}), func(w Object) bool { return others[w] || w.Rank() == RankTable })
}

// remoteEntries are the entries that the kernel has for a port's addresses from
// the time when they lived on another member.
func (o *Overlay) remoteEntries(n *Network, p Port) []Object {
	dev := VXLANName(n.VNI)
	keys := []Key{fdbKey{Dev: dev, MAC: p.MAC}}
	for _, a := range p.Addrs {
		keys = append(keys, neighKey{dev, a})
	}
	var found []Object
	for _, k := range keys {
		if have := o.view.get(k); have != nil {
			found = append(found, have)
		}
	}
	return found
}

// putNow puts those objects that the kernel does not have, and fails as a whole.
func (o *Overlay) putNow(ctx context.Context, objects []Object) error {
	p := program{Overlay: o, ctx: ctx}
	p.put(slices.DeleteFunc(slices.Clone(objects), func(w Object) bool { return o.view.get(w.Key()) == w }))
	return p.finish()
}

func (o *Overlay) deleteNow(ctx context.Context, objects []Object) error {
	p := program{Overlay: o, ctx: ctx}
	p.delete(objects)
	return p.finish()
}

// finish distrusts what we know of the kernel after a failure.
func (p *program) finish() error {
	if p.stale {
		p.retry()
		p.Overlay.view = nil
	}
	return p.failures.err()
}
