package cni

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/agent/api"
)

// state is what ADD answered of an interface, and what CHECK finds of it.
type state struct {
	mac     string
	addrs   []netip.Prefix
	gateway netip.Addr // of the default route; invalid: none
	up      bool
}

// check compares what ADD answered with what the agent and the kernel have.
func (plugin) check(ctx context.Context, c call) error {
	before, err := c.before()
	if err != nil {
		return err
	}
	all, err := c.here(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(e api.Endpoint) bool { return e.Container == c.ContainerID && e.Interface == c.IfName })
	if i < 0 {
		return types.NewError(types.ErrUnknownContainer,
			fmt.Sprintf("container %s has no %s on network %s", c.ContainerID, c.IfName, c.Network), "agentctl endpoint ls")
	}
	// The agent keeps no route: those are the kernel's.
	known := state{mac: all[i].MAC, gateway: before.gateway, up: true}
	if a, err := netip.ParsePrefix(all[i].Address); err == nil {
		known.addrs = []netip.Prefix{a}
	}
	if err := c.differs("the agent", before, known); err != nil {
		return err
	}
	now, err := look(c.Netns, c.IfName)
	if err != nil {
		return types.NewError(types.ErrInternal, fmt.Sprintf("%s in %s: %v", c.IfName, c.Netns, err), "")
	}
	return c.differs("the kernel", before, now)
}

// before is what ADD answered for the interface.
func (c call) before() (state, error) {
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return state{}, types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	if c.PrevResult == nil {
		return state{}, badConf("prevResult: missing, nothing to check against", "")
	}
	r, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return state{}, types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	i := slices.IndexFunc(r.Interfaces, func(f *types100.Interface) bool { return f != nil && f.Name == c.IfName && f.Sandbox != "" })
	if i < 0 {
		return state{}, badConf("prevResult: no interface "+c.IfName, "")
	}
	s := state{mac: r.Interfaces[i].Mac, up: true}
	for _, ip := range r.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != i {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ones, _ := ip.Address.Mask.Size()
			s.addrs = append(s.addrs, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	for _, route := range r.Routes {
		if route == nil {
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones == 0 {
			if gw, ok := netip.AddrFromSlice(route.GW); ok {
				s.gateway = gw.Unmap()
			}
		}
	}
	return s, nil
}

// differs says what somebody has otherwise than ADD answered.
func (c call) differs(who string, want, have state) error {
	var what []string
	if !strings.EqualFold(have.mac, want.mac) {
		what = append(what, "MAC "+have.mac+" instead of "+want.mac)
	}
	for _, a := range want.addrs {
		if !slices.Contains(have.addrs, a) {
			what = append(what, "no address "+a.String())
		}
	}
	if want.gateway.IsValid() && have.gateway != want.gateway {
		what = append(what, "no default route via "+want.gateway.String())
	}
	if !have.up {
		what = append(what, "the interface down")
	}
	if len(what) == 0 {
		return nil
	}
	return types.NewError(types.ErrInternal, fmt.Sprintf("container %s, %s: %s has %s", c.ContainerID, c.IfName, who, strings.Join(what, ", ")), "")
}
