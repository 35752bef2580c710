package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Plug makes an endpoint's veth: one end in the sandbox with address and
// default route, the other in the fabric as a port of the network's bridge. It
// takes two visits to the kernel's configuration lock for the link and one for
// all that is set in the sandbox.
func (k *Kernel) Plug(ctx context.Context, ep overlay.Endpoint) error {
	bridge, err := k.fabric.link(overlay.BridgeName(ep.VNI))
	if err != nil {
		return fmt.Errorf("bridge %s: %w", overlay.BridgeName(ep.VNI), err)
	}
	p := plug{Kernel: k, ep: ep, bridge: bridge, dev: overlay.EndpointName(ep.ID), inner: ep.Ifname}
	if ep.Sandbox == "" {
		p.inner, p.sandbox = overlay.WaitingName(ep.ID), k.host
		return p.run()
	}
	// The socket belongs to the sandbox whatever becomes of its path.
	if p.sandbox, err = openSpace(ep.Sandbox); err != nil {
		return err
	}
	return errors.Join(p.run(), p.sandbox.close())
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
	for i := range all {
		if id, ok := overlay.AliasEndpoint(all[i].alias); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

const (
	operUp         = 6 // IF_OPER_UP (RFC 2863)
	carrierTimeout = 3 * time.Second
)

type plug struct {
	*Kernel
	ep      overlay.Endpoint
	bridge  link
	dev     string // name in the fabric
	inner   string // name in the sandbox
	sandbox *space
}

func (p *plug) run() error {
	err := p.make()
	made := err == nil
	if errors.Is(err, unix.EEXIST) {
		made, err = p.adopt()
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
	var e encoder
	e.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifInfo(0, 0, 0))
	e.str(unix.IFLA_IFNAME, p.dev)
	e.u32(unix.IFLA_MTU, uint32(p.ep.MTU))
	e.u32(unix.IFLA_GROUP, p.bridge.group)
	e.u32(unix.IFLA_NET_NS_FD, uint32(p.fabric.ns.Fd()))
	e.u32(unix.IFLA_MASTER, uint32(p.bridge.index))
	e.nest(unix.IFLA_LINKINFO, func() {
		e.attr(unix.IFLA_INFO_KIND, []byte("veth"))
		e.nest(unix.IFLA_INFO_DATA, func() { e.nest(vethPeer, func() { p.innerEnd(&e) }) })
	})
	e.end()
	err := p.host.one(&e)
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("bridge %s: %w: %w", p.bridge.name, overlay.ErrTooManyPorts, err)
	}
	return wrap(err, "make veth "+p.dev)
}

func (p *plug) innerEnd(e *encoder) {
	e.b = append(e.b, ifInfo(0, 0, 0)...)
	e.str(unix.IFLA_IFNAME, p.inner)
	e.attr(unix.IFLA_ADDRESS, p.ep.MAC[:])
	e.u32(unix.IFLA_MTU, uint32(p.ep.MTU))
	e.u32(unix.IFLA_NET_NS_FD, uint32(p.sandbox.ns.Fd()))
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
	case taken && inner.kind == "veth" && inner.peer == outer.index && outer.peer == inner.index:
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
	var e encoder
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(0, unix.IFF_UP, unix.IFF_UP))
	e.str(unix.IFLA_IFNAME, p.dev)
	e.u32(unix.IFLA_MTU, uint32(p.ep.MTU))
	e.str(unix.IFLA_IFALIAS, overlay.EndpointAlias(p.ep.Cluster, p.ep.Network, p.ep.ID))
	e.nest(unix.IFLA_LINKINFO, func() { portInfo(&e, overlay.BridgePort{MulticastFlood: true}) })
	e.end()
	if err := p.fabric.one(&e); err != nil {
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
		if l.state == operUp {
			return nil
		}
		if time.Since(start) > carrierTimeout {
			return fmt.Errorf("%s does not come up: state %d", dev, l.state)
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
	var e encoder
	var steps []string
	p.upInner(&e, inner)
	steps = append(steps, "set lo up", "set "+p.inner+" up")
	for _, a := range p.ep.Addrs {
		addressMessage(&e, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, inner.index, a, unix.RT_SCOPE_UNIVERSE, noDAD(a.Addr()))
		steps = append(steps, "add address "+a.String())
	}
	for _, gw := range p.ep.Gateways {
		defaultRoute(&e, gw, inner.index)
		steps = append(steps, "add default route via "+gw.String())
	}
	failed, err := p.sandbox.do(&e)
	if err != nil {
		return err
	}
	for i, err := range failed {
		if err != nil {
			return wrap(err, steps[i])
		}
	}
	return nil
}

// enableIPv6 undoes a runtime's net.ipv6.conf.default.disable_ipv6=1 for an
// interface that has an IPv6 address.
func (p *plug) enableIPv6() error {
	for _, a := range p.ep.Addrs {
		if a.Addr().Is6() {
			err := within(p.sandbox.ns, func() error {
				return writeSysctl(overlay.Conf("ipv6", p.inner, "disable_ipv6"), "0")
			})
			return wrap(err, "enable IPv6 on "+p.inner)
		}
	}
	return nil
}

func (p *plug) upInner(e *encoder, inner link) {
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(0, unix.IFF_UP, unix.IFF_UP))
	e.str(unix.IFLA_IFNAME, "lo")
	e.end()
	e.begin(unix.RTM_NEWLINK, 0, ifInfo(inner.index, unix.IFF_UP, unix.IFF_UP))
	if inner.mac != p.ep.MAC {
		e.attr(unix.IFLA_ADDRESS, p.ep.MAC[:])
	}
	if inner.mtu != p.ep.MTU {
		e.u32(unix.IFLA_MTU, uint32(p.ep.MTU))
	}
	e.end()
}

// noDAD: the pool has made the address unique, and the second that duplicate
// address detection takes (RFC 4862) would delay the first packet.
func noDAD(a netip.Addr) uint32 {
	if a.Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}

func defaultRoute(e *encoder, gateway netip.Addr, dev int) {
	e.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		rtMsg(family(gateway), 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST))
	e.addr(unix.RTA_GATEWAY, gateway)
	e.u32(unix.RTA_OIF, uint32(dev))
	e.end()
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
