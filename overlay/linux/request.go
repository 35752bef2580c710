package linux

import (
	"bytes"
	"errors"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// requests are what the netlink library has no call for, all of them here; the
// sentence above each says what the library lacks. How a message is laid out is
// known to message.go alone.
//
// There are two sockets. With an error the kernel sends a sentence to whoever
// asks for it, and the library takes the sentence at the end of a dump for an
// echo of the request, whose length it then believes: it would panic. So the
// socket for dumps does not ask.
type requests struct {
	changes *nl.SocketHandle
	dumps   *nl.SocketHandle // nil in a sandbox
}

// socketBuffer holds the errors of a whole batch: they are there before any is
// read.
const socketBuffer = 8 << 20

func openRequests(ns *os.File) (*requests, error) {
	r, err := openChanges(ns)
	if err != nil {
		return nil, err
	}
	if r.dumps, err = openSocket(ns); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// openChanges is for a namespace in which nothing is listed.
func openChanges(ns *os.File) (*requests, error) {
	s, err := openSocket(ns)
	if err != nil {
		return nil, err
	}
	_ = s.Socket.SetExtAck(true) // an old kernel without sentences answers all the same
	return &requests{changes: s}, nil
}

func openSocket(ns *os.File) (*nl.SocketHandle, error) {
	s, err := netns.Socket(ns)
	if err != nil {
		return nil, err
	}
	_ = s.SetReceiveBufferSize(socketBuffer, true)
	return &nl.SocketHandle{Socket: s}, nil
}

func (r *requests) close() {
	for _, s := range []*nl.SocketHandle{r.changes, r.dumps} {
		if s != nil {
			s.Close()
		}
	}
}

// change sends one request and waits until the kernel has done it.
func (r *requests) change(req *nl.NetlinkRequest) error {
	b := newBatch(1)
	b.add(req)
	failed, err := r.send(b)
	if err == nil && failed != nil {
		err = failed[0]
	}
	return err
}

// each asks for a table and hands over each message of a type, which is valid
// during the call only. The table may change meanwhile, see dump.
func (r *requests) each(req *nl.NetlinkRequest, typ uint16, do func(body []byte)) error {
	req.Flags |= unix.NLM_F_DUMP
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.dumps}
	return req.ExecuteIter(unix.NETLINK_ROUTE, typ, func(body []byte) bool {
		do(body)
		return true
	})
}

// linkRequest is about the device with an index, and sets some of its flags.
func linkRequest(typ, index int, flags uint32) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, 0)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index, info.Flags, info.Change = int32(index), flags, flags
	req.AddData(info)
	return req
}

// link finds a device by its name; the error is ENODEV when there is none. The
// library's LinkByName has the kernel add an acknowledgement and all counters,
// and half of what an attachment asks are these.
func (r *requests) link(name string) (netlink.Link, error) {
	req := linkRequest(unix.RTM_GETLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.changes}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 {
		return nil, unix.ENODEV
	}
	return netlink.LinkDeserialize(nil, answers[0])
}

// setLink gives a device our settings and brings it up. The library's LinkModify
// repeats the kind, and with it the kernel wants a tunnel device's settings, of
// which it then refuses those that cannot change. Its single calls would take
// the kernel's configuration lock five times. Of a bridge it knows neither STP
// nor the forward delay.
func (r *requests) setLink(index int, want overlay.Link) error {
	req := linkRequest(unix.RTM_NEWLINK, index, unix.IFF_UP)
	if !want.MAC.IsZero() {
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, want.MAC[:]))
	}
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(want.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(want.Group)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(want.Alias)))
	if want.Kind == overlay.Bridge {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
		data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
		data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
		data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
		data.AddRtAttr(nl.IFLA_BR_AGEING_TIME, nl.Uint32Attr(0))
		data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(0))
		data.AddRtAttr(nl.IFLA_BR_GROUP_FWD_MASK, nl.Uint16Attr(0))
		// Without a VLAN of its own the bridge keeps one entry per address.
		data.AddRtAttr(nl.IFLA_BR_VLAN_DEFAULT_PVID, nl.Uint16Attr(0))
		req.AddData(info)
	}
	return r.change(req)
}

// setPort sets the flags of a bridge port. The library has a call for each of
// some of them, none for bcast_flood and mcast_flood, and a port must not be up
// with half of them.
func (r *requests) setPort(index int, p overlay.BridgePort) error {
	req := linkRequest(unix.RTM_NEWLINK, index, 0)
	req.AddData(portInfo(p))
	return r.change(req)
}

// makePort makes an endpoint's veth. The library looks the device up and
// enslaves it in two more requests: one more wait for the kernel's configuration
// lock, and a bridge that is full leaves a veth behind.
func (r *requests) makePort(v *netlink.Veth, ns, peerNS *os.File) error {
	req := linkRequest(unix.RTM_NEWLINK, 0, 0)
	req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(v.Group)))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.MasterIndex))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.PeerName))
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.PeerHardwareAddr)
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(peerNS.Fd())))
	req.AddData(info)
	return r.change(req)
}

// startPort is setPort that also sets MTU and alias and brings the device up, in
// one request: the library makes four, each waits for the kernel's configuration
// lock, and an endpoint is attached while somebody waits.
func (r *requests) startPort(name string, p overlay.BridgePort, mtu int, alias string) error {
	req := linkRequest(unix.RTM_NEWLINK, 0, unix.IFF_UP)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)))
	req.AddData(portInfo(p))
	return r.change(req)
}

func portInfo(p overlay.BridgePort) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	for _, f := range []struct {
		flag int
		on   bool
	}{
		{nl.IFLA_BRPORT_LEARNING, false}, {nl.IFLA_BRPORT_UNICAST_FLOOD, p.Flood}, {nl.IFLA_BRPORT_MCAST_FLOOD, p.MulticastFlood},
		{nl.IFLA_BRPORT_BCAST_FLOOD, true}, {nl.IFLA_BRPORT_NEIGH_SUPPRESS, false}, {nl.IFLA_BRPORT_ISOLATED, false},
	} {
		data.AddRtAttr(f.flag, nl.Uint8Attr(uint8(number(f.on))))
	}
	return info
}

// inner sets up lo and an endpoint's interface in its sandbox and gives that its
// addresses and default routes, with one system call: the library makes four or
// more, and somebody waits for the endpoint. The error is that of the first step
// that failed.
func (r *requests) inner(have *netlink.LinkAttrs, ep overlay.Endpoint) error {
	b, index := newBatch(4), have.Index
	steps := []string{"set lo up", "set " + have.Name + " up"}
	b.add(linkRequest(unix.RTM_NEWLINK, loopback, unix.IFF_UP))
	up := linkRequest(unix.RTM_NEWLINK, index, unix.IFF_UP)
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

// setLocal changes the source address of a tunnel device in place. The
// library's LinkModify repeats every attribute, and the kernel refuses a request
// that repeats the port or the MTU.
func (r *requests) setLocal(index int, local netip.Addr) error {
	req := linkRequest(unix.RTM_NEWLINK, index, 0)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	typ := nl.IFLA_VXLAN_LOCAL
	if local.Is6() {
		typ = nl.IFLA_VXLAN_LOCAL6
	}
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(typ, local.AsSlice())
	req.AddData(info)
	return r.change(req)
}

// deleteIn removes a device from the namespace that this one knows by a number
// (ip-netns(8), set). The library deletes in its own namespace only.
func (r *requests) deleteIn(nsid int, name string) error {
	req := linkRequest(unix.RTM_DELLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(nsid))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return r.change(req)
}

// deleteGroup removes all devices of a group. The library deletes one by one,
// and each would wait for packets in flight; as a group they wait together.
func (r *requests) deleteGroup(group uint32) error {
	req := linkRequest(unix.RTM_DELLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return r.change(req)
}

// skipStats leaves the counters out of an answer (RTEXT_FILTER_SKIP_STATS).
const skipStats = 1 << 3

// devices dumps the links of a namespace. The library's LinkList reads neither
// the settings of a device nor the flags of a bridge port, but does read all
// counters.
func (r *requests) devices() ([]device, error) {
	req := linkRequest(unix.RTM_GETLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	var all []device
	var broken error
	err := r.each(req, unix.RTM_NEWLINK, func(body []byte) {
		link, err := netlink.LinkDeserialize(nil, body)
		if err != nil {
			broken = err
			return
		}
		d := device{Link: link}
		d.read(body)
		all = append(all, d)
	})
	return all, errors.Join(broken, err)
}

// neighbours dumps one family of a namespace as objects; AF_BRIDGE are the FDBs.
// The library's NeighList reads no NDA_PROTOCOL, by which an entry is known as
// ours, and makes nine objects of each of maybe a hundred thousand entries.
func (r *requests) neighbours(family uint8, object func(*neighbour) (overlay.Object, bool)) (all []overlay.Object, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&netlink.Ndmsg{Family: family})
	err = r.each(req, unix.RTM_NEWNEIGH, func(body []byte) {
		if n, ok := parseNeighbour(body); ok {
			if o, ok := object(&n); ok {
				all = append(all, o)
			}
		}
	})
	return all, err
}

// subscribe opens a socket for notifications of groups (RTNLGRP_…). The library
// makes a buffer of 64 kB for each notification, and there is one for each of
// ten thousand entries: its socket is read as a file instead.
func subscribe(ns *os.File, groups ...uint) (*os.File, error) {
	socket, err := netns.Socket(ns, groups...)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	_ = socket.SetReceiveBufferSize(socketBuffer, true)
	fd, err := unix.FcntlInt(uintptr(socket.GetFd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
