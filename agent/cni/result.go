package cni

import (
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/agent/api"
)

// Result is the answer to ADD. It has the container's interface only: the other
// end is in the fabric, where no runtime looks.
func Result(c Conf, netns string, at api.Attachment) (*types100.Result, error) {
	addr, err := netip.ParsePrefix(at.Address)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the agent's address: "+err.Error(), "")
	}
	ip := &types100.IPConfig{Interface: types100.Int(0), Address: ipNet(addr)}
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: at.Interface, Mac: at.MAC, Mtu: at.MTU, Sandbox: netns}},
		IPs:        []*types100.IPConfig{ip},
		DNS:        dns(c, at),
	}
	if gw, err := netip.ParseAddr(at.Gateway); err == nil {
		ip.Gateway = gw.AsSlice()
		any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r.Routes = []*types.Route{{Dst: ipNet(any), GW: gw.AsSlice()}}
	}
	return r, nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// dns is our resolver, alone: another beside it would deny our names. The
// search domains and options of the configuration and the runtime come after
// ours.
func dns(c Conf, at api.Attachment) types.DNS {
	d := types.DNS{Nameservers: at.DNS, Domain: c.DNS.Domain}
	for _, s := range slices.Concat(at.Search, c.DNS.Search, c.RuntimeConfig.DNS.Searches) {
		if !slices.Contains(d.Search, s) {
			d.Search = append(d.Search, s)
		}
	}
	d.Options = slices.Concat(c.DNS.Options, c.RuntimeConfig.DNS.Options)
	return d
}
