package linux

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// Plug makes an endpoint's veth: one end in the sandbox with address and
// default route, the other in the fabric as a port of the network's bridge.
func (k *Kernel) Plug(ctx context.Context, ep overlay.Endpoint) error {
	bridge, err := k.fabric.link(overlay.BridgeName(ep.VNI))
	if err != nil {
		return fmt.Errorf("bridge %s: %w", overlay.BridgeName(ep.VNI), err)
	}
	p := plug{host: k.host, fabric: k.fabric, ep: ep, bridge: bridge.Attrs(), dev: overlay.EndpointName(ep.ID), inner: ep.Ifname}
	if ep.Sandbox == "" {
		p.inner, p.sandbox = overlay.WaitingName(ep.ID), k.host
		return p.run()
	}
	// The socket belongs to the sandbox whatever becomes of its path.
	if p.sandbox, err = openSandbox(ep.Sandbox); err != nil {
		return err
	}
	err = p.sandbox.noFabric()
	if err == nil {
		err = p.run()
	}
	return errors.Join(err, p.sandbox.close())
}

// noFabric refuses the namespace of bridges of this agent or of another one of this
// machine: the interface would be a port beside theirs.
func (s *space) noFabric() error {
	lo, err := s.link("lo")
	if err == nil && strings.HasPrefix(lo.Attrs().Alias, undoPrefix) {
		return fmt.Errorf("%s: %w", s.ns.Name(), overlay.ErrFabric)
	}
	return err
}

// Unplug removes both ends of an endpoint's veth.
func (k *Kernel) Unplug(_ context.Context, id string) error {
	return k.fabric.deleteLink(overlay.EndpointName(id))
}

// Plugged reads the ids out of the aliases of the endpoints' links. A link goes
// with its sandbox, so what is listed is plugged now.
func (k *Kernel) Plugged(context.Context) ([]string, error) {
	all, err := k.fabric.links()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range all {
		if id, ok := overlay.AliasEndpoint(l.Attrs().Alias); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

const carrierTimeout = 3 * time.Second

// plug is an endpoint's veth in the making.
type plug struct {
	host, fabric, sandbox *space
	ep                    overlay.Endpoint
	bridge                *netlink.LinkAttrs
	dev                   string // name in the fabric
	again                 bool   // the link was there: something in the sandbox may be missing
	inner                 string // name in the sandbox
}

func (p *plug) run() error {
	err := p.make()
	made := err == nil
	if errors.Is(err, unix.EEXIST) {
		made, err = p.adopt()
		p.again = !made
	}
	if err == nil {
		err = p.configure()
	}
	if err != nil && made {
		err = errors.Join(err, p.fabric.deleteLink(p.dev))
	}
	return err
}

// make creates both ends where they belong and enslaves the outer one.
func (p *plug) make() error {
	veth := &netlink.Veth{PeerName: p.inner, PeerHardwareAddr: p.ep.MAC[:]}
	veth.Name, veth.MTU, veth.Group, veth.MasterIndex = p.dev, p.ep.MTU, p.bridge.Group, p.bridge.Index
	err := p.host.change(func(r *requests) error { return r.makePort(veth, p.fabric.ns, p.sandbox.ns) })
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("bridge %s: %w: %w", p.bridge.Name, overlay.ErrTooManyPorts, err)
	}
	return wrap(err, "make veth "+p.dev)
}

// adopt looks at what stands in the way: the endpoint's own link from an
// earlier call, its link into a sandbox that was replaced, or somebody else's
// interface of that name. It reports whether it made the link.
func (p *plug) adopt() (made bool, err error) {
	inner, err := p.sandbox.link(p.inner)
	taken := err == nil
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return false, err
	}
	outer, err := p.fabric.link(p.dev)
	switch {
	case errors.Is(err, unix.ENODEV) && taken:
		return false, fmt.Errorf("%s: %w", p.inner, overlay.ErrIfnameTaken)
	case err != nil:
		return false, err
	case refuse(overlay.Fabric, outer) != nil:
		return false, refuse(overlay.Fabric, outer)
	case taken && inner.Type() == "veth" && inner.Attrs().ParentIndex == outer.Attrs().Index && outer.Attrs().ParentIndex == inner.Attrs().Index:
		return false, nil
	case taken:
		return false, fmt.Errorf("%s: %w", p.inner, overlay.ErrIfnameTaken)
	case p.ep.Sandbox == "":
		return false, nil // a runtime has fetched it
	}
	if err := p.fabric.deleteLink(p.dev); err != nil {
		return false, err
	}
	return true, p.make()
}

// configure sets both ends up, the inner one first: no frame reaches the
// endpoint before it has its address.
func (p *plug) configure() error {
	if p.ep.Sandbox != "" {
		if err := p.configureInner(); err != nil {
			return err
		}
	}
	alias := overlay.EndpointAlias(p.ep.Cluster, p.ep.Network, p.ep.ID)
	err := p.fabric.change(func(r *requests) error {
		return r.startPort(p.dev, overlay.BridgePort{MulticastFlood: true}, p.ep.MTU, alias)
	})
	if err != nil {
		return wrap(err, "set "+p.dev+" up")
	}
	if p.ep.Sandbox == "" {
		return nil // carries nothing before its runtime sets it up
	}
	return errors.Join(p.carries(p.sandbox, p.inner), p.carries(p.fabric, p.dev))
}

// carries waits until an end of the veth passes packets. The kernel works off a
// new carrier at once, unless the two ends have one number in their two
// namespaces: then it takes the veth for a device of its own and may let it
// wait a second (net/core/link_watch.c, linkwatch_urgent_event), in which the
// bridge drops every frame. Asking for the device makes Linux 6.9 and later do
// it now; earlier ones are waited for.
func (p *plug) carries(s *space, dev string) error {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		l, err := s.link(dev)
		if err != nil {
			return wrap(err, "find "+dev)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Since(start) > carrierTimeout {
			return fmt.Errorf("%s does not come up: state %s", dev, l.Attrs().OperState)
		}
	}
}

func (p *plug) configureInner() error {
	if err := p.enableIPv6(); err != nil {
		return err
	}
	inner, err := p.sandbox.link(p.inner)
	if err != nil {
		return wrap(err, "find "+p.inner)
	}
	return p.sandbox.change(func(r *requests) error { return r.inner(inner.Attrs(), p.ep, p.again) })
}

// enableIPv6 undoes a runtime's net.ipv6.conf.default.disable_ipv6=1 for an
// interface that has an IPv6 address.
func (p *plug) enableIPv6() error {
	for _, a := range p.ep.Addrs {
		if a.Addr().Is6() {
			err := netns.Within(p.sandbox.ns, func() error {
				return writeSysctl(overlay.Conf("ipv6", p.inner, "disable_ipv6"), "0")
			})
			return wrap(err, "enable IPv6 on "+p.inner)
		}
	}
	return nil
}
