package why

import (
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/overlay"
)

// sandbox judges one end's namespace, from which packets go to the other end.
func (w *walk) sandbox(e End, side Side, other End) (string, *finding) {
	if side.InErr != "" {
		return "", &finding{fmt.Sprintf("the sandbox of %s cannot be looked into: %s", e.Name, side.InErr), "agentctl endpoint inspect " + e.Name}
	}
	in := *side.In
	l, ok := in.LinkOf(e.Addr)
	switch {
	case !ok && e.Kind == Endpoint:
		return "", &finding{fmt.Sprintf("%s has lost its address %s", e.Name, e.Addr), "agentctl endpoint inspect " + e.Name}
	case ok && !l.Up:
		return "", &finding{fmt.Sprintf("%s in %s is down", l.Name, e.Name), w.within(e, "ip link set "+l.Name+" up")}
	}
	for _, judge := range []func() *finding{
		func() *finding { return w.wayOut(e, in, l, other) },
		func() *finding { return w.identity(e, in, l, other) },
		func() *finding { return w.filter(e, in, other) },
	} {
		if found := judge(); found != nil {
			return "", found
		}
	}
	return fmt.Sprintf("%s is up, mtu %d, %s", l.Name, l.MTU, way(in.Way, other.Addr)), nil
}

// wayOut: the end sends to the other one, and by the right device.
func (w *walk) wayOut(e End, in overlay.Inside, l overlay.InsideLink, other End) *finding {
	route := w.within(e, "ip route get "+other.Addr.String())
	switch {
	case in.Way.Err != "":
		return &finding{fmt.Sprintf("%s has no route to %s: %s", e.Name, other.Addr, in.Way.Err), w.within(e, "ip route")}
	case e.Kind == Endpoint && in.Way.Dev != l.Name && e.Addr != other.Addr:
		return &finding{fmt.Sprintf("%s sends what is for %s to %s, not to %s", e.Name, other.Addr, in.Way.Dev, l.Name), route}
	case w.Src.Kind == Endpoint && w.Dst.Kind == Endpoint && in.Way.Via.IsValid():
		return &finding{fmt.Sprintf("%s sends what is for %s by %s, although it is on the same network", e.Name, other.Addr, in.Way.Via), route}
	}
	return nil
}

// identity: the end sends as who it is, or its port drops the packet, and to who the
// other one is, or no port takes it.
func (w *walk) identity(e End, in overlay.Inside, l overlay.InsideLink, other End) *finding {
	switch {
	case e.Kind != Endpoint:
	case e.MAC != l.MAC:
		return &finding{fmt.Sprintf("%s in %s has the hardware address %s, not %s: its port drops what it sends", l.Name, e.Name, l.MAC, e.MAC),
			w.within(e, fmt.Sprintf("ip link set %s address %s", l.Name, e.MAC))}
	case e.Addr == w.Src.Addr && in.Way.Src.IsValid() && in.Way.Src != e.Addr && e.Addr != other.Addr:
		return &finding{fmt.Sprintf("%s sends to %s as %s, and its address is %s: its port drops that", e.Name, other.Addr, in.Way.Src, e.Addr),
			w.within(e, "ip route get "+other.Addr.String())}
	case other.Kind == Endpoint && other.Network == e.Network && in.Way.Hop != (overlay.MAC{}) && in.Way.Hop != other.MAC && !in.Way.Via.IsValid():
		return &finding{fmt.Sprintf("%s takes %s for the hardware address of %s, which is %s", e.Name, in.Way.Hop, other.Name, other.MAC),
			w.within(e, fmt.Sprintf("ip neigh del %s dev %s", other.Addr, l.Name))}
	}
	return nil
}

// filter: the end's own packet filter lets the packet and its answer pass.
func (w *walk) filter(e End, in overlay.Inside, other End) *finding {
	if len(in.Drops) == 0 {
		return nil
	}
	d := in.Drops[0]
	what := "what it sends to " + other.Addr.String()
	if d.Hook != "output" {
		what = "what comes from " + other.Addr.String()
	}
	return &finding{fmt.Sprintf("the packet filter in %s drops %s: nft table %s %s, chain %s", e.Name, what, d.Family, d.Table, d.Chain),
		w.within(e, fmt.Sprintf("nft -a list chain %s", d.ForeignFilter))}
}

func way(r overlay.InsideWay, to netip.Addr) string {
	if r.Via.IsValid() {
		return fmt.Sprintf("%s by %s", to, r.Via)
	}
	return fmt.Sprintf("%s on the link", to)
}

// within is a command as it is typed on the end's host.
func (w *walk) within(e End, command string) string {
	text := command
	if e.Sandbox != "" {
		text = "nsenter --net=" + e.Sandbox + " " + command
	}
	if e.Host != "" {
		text += " # on " + e.Host
	}
	return text
}
