package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Inspect returns how an endpoint's interface differs from what Plug made, a few words
// each. What somebody added beside it is his own business.
func (k *Kernel) Inspect(_ context.Context, ep overlay.Endpoint) ([]string, error) {
	s, err := openSpace(ep.Sandbox)
	if err != nil {
		return nil, err
	}
	defer s.close()
	d, err := s.device(ep.Ifname)
	if errors.Is(err, unix.ENODEV) {
		return []string{"no interface " + ep.Ifname}, nil
	}
	if err != nil {
		return nil, err
	}
	out := inspectLink(&d, ep)
	addrs, err := s.addresses()
	if err != nil {
		return nil, err
	}
	for _, want := range ep.Addrs {
		if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.LinkIndex == d.Attrs().Index && toPrefix(a.IPNet) == want }) {
			out = append(out, "no address "+want.String())
		}
	}
	missing, err := s.inspectRoutes(d.Attrs().Index, ep)
	return append(out, missing...), err
}

func inspectLink(d *device, ep overlay.Endpoint) (out []string) {
	a := d.Attrs()
	if !bytes.Equal(a.HardwareAddr, ep.MAC[:]) {
		out = append(out, fmt.Sprintf("MAC address %s, not %s", a.HardwareAddr, ep.MAC))
	}
	if a.MTU != ep.MTU {
		out = append(out, fmt.Sprintf("mtu %d, not %d", a.MTU, ep.MTU))
	}
	if other := d.deviates(overlay.Gateway); other != "" { // it belongs to no other device either
		out = append(out, ep.Ifname+" "+other)
	}
	return out
}

// inspectRoutes looks for the routes to the subnets and for the default routes.
func (s *space) inspectRoutes(index int, ep overlay.Endpoint) (out []string, err error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := s.unicast(family)
		if err != nil {
			return nil, err
		}
		for _, a := range ep.Addrs {
			subnet := a.Masked()
			direct := func(r netlink.Route) bool { return r.LinkIndex == index && r.Gw == nil && toPrefix(r.Dst) == subnet }
			if ofFamily(a.Addr(), family) && !a.IsSingleIP() && !slices.ContainsFunc(all, direct) {
				out = append(out, "no route to "+subnet.String())
			}
		}
		for _, gw := range ep.Gateways {
			leads := func(r netlink.Route) bool {
				return r.LinkIndex == index && toPrefix(r.Dst).Bits() == 0 && toAddr(r.Gw) == gw
			}
			if ofFamily(gw, family) && !slices.ContainsFunc(all, leads) {
				out = append(out, "no default route via "+gw.String())
			}
		}
	}
	return out, nil
}

func ofFamily(a netip.Addr, of int) bool { return int(family(a)) == of }
