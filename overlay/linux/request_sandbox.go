package linux

import (
	"bytes"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// inner sets up lo and an endpoint's interface in its sandbox and gives that its
// addresses and default routes, with one system call: the library makes four or
// more, and somebody waits for the endpoint. The error is that of the first step
// that failed.
func (r *requests) inner(have *netlink.LinkAttrs, ep overlay.Endpoint, again bool) error {
	b, index := newBatch(4), have.Index
	steps := []string{"set lo up", "set " + have.Name + " up"}
	b.add(linkRequest(unix.RTM_NEWLINK, loopback, unix.IFF_UP))
	up := linkRequest(unix.RTM_NEWLINK, index, flagsOn)
	up.Data[0].(*nl.IfInfomsg).Change |= flagsOff
	if !bytes.Equal(have.HardwareAddr, ep.MAC[:]) { // of an earlier call
		up.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, ep.MAC[:]))
	}
	if have.MTU != ep.MTU {
		up.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(ep.MTU))))
	}
	b.add(up)
	const replace = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	for _, a := range ep.Addrs {
		req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, replace)
		msg := nl.NewIfAddrmsg(int(family(a.Addr())))
		msg.Prefixlen, msg.Index, msg.Flags = uint8(a.Bits()), uint32(index), noDAD(a.Addr())
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Addr().AsSlice()))
		req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.Addr().AsSlice()))
		b.add(req)
		steps = append(steps, "add address "+a.String())
		if again && !a.IsSingleIP() { // the kernel adds it with a new address only
			b.add(subnetRoute(index, a))
			steps = append(steps, "add route to "+a.Masked().String())
		}
	}
	for _, gw := range ep.Gateways {
		req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, replace)
		msg := nl.NewRtMsg()
		msg.Family, msg.Protocol = family(gw), unix.RTPROT_STATIC
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gw.AsSlice()))
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
		b.add(req)
		steps = append(steps, "add default route via "+gw.String())
	}
	failed, err := r.send(b)
	for i := 0; i < len(failed) && err == nil; i++ {
		err = wrap(failed[i], steps[i])
	}
	return err
}

// subnetRoute is the route that comes with an address, as the kernel makes it.
func subnetRoute(index int, a netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	msg := nl.NewRtMsg()
	msg.Family, msg.Protocol, msg.Dst_len = family(a.Addr()), unix.RTPROT_KERNEL, uint8(a.Bits())
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, a.Masked().Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if a.Addr().Is4() {
		msg.Scope = unix.RT_SCOPE_LINK
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, a.Addr().AsSlice()))
	} else {
		const metric = 256 // IP6_RT_PRIO_ADDRCONF
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(metric)))
	}
	return req
}
