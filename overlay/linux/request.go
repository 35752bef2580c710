package linux

import (
	"cmp"
	"errors"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// requests are what the netlink library has no call for, all of them here and, of
// sandboxes, in request_sandbox.go; the sentence above each says what the library lacks. How a message is laid out is
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

// device finds a device by its name; the error is ENODEV when there is none. The
// library's LinkByName has the kernel add an acknowledgement and all counters, and
// half of what an attachment asks are these. Nor does it read what devices reads.
func (r *requests) device(name string) (device, error) {
	req := linkRequest(unix.RTM_GETLINK, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	return r.one(req)
}

// deviceAt finds a device by its index.
func (r *requests) deviceAt(index int) (device, error) {
	return r.one(linkRequest(unix.RTM_GETLINK, index, 0))
}

func (r *requests) one(req *nl.NetlinkRequest) (device, error) {
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.changes}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return device{}, err
	}
	if len(answers) == 0 {
		return device{}, unix.ENODEV
	}
	return newDevice(answers[0])
}

// setLink gives a device our settings and brings it up. The library's LinkModify
// repeats the kind, and with it the kernel wants a tunnel device's settings, of
// which it then refuses those that cannot change. Its single calls would take
// the kernel's configuration lock five times. Of a bridge it knows neither STP
// nor the forward delay.
func (r *requests) setLink(have *device, want overlay.Link) error {
	index := have.Attrs().Index
	b := newBatch(2)
	if have.stp { // while it is on, the forward delay is refused
		off := linkRequest(unix.RTM_NEWLINK, index, 0)
		info, _ := kindInfo("bridge", bridgeKnobs[0])
		off.AddData(info)
		b.add(off)
	}
	req := linkRequest(unix.RTM_NEWLINK, index, 0)
	if want.Kind == overlay.Bridge && len(have.wrong) > 0 {
		info, _ := kindInfo("bridge", have.wrong...)
		req.AddData(info)
	}
	info := req.Data[0].(*nl.IfInfomsg)
	info.Flags, info.Change = flagsOn, flagsOn|flagsOff
	if !want.MAC.IsZero() {
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, want.MAC[:]))
	}
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(want.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(want.Group)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(want.Alias)))
	if have.protoDown { // few kinds of devices take it
		req.AddData(nl.NewRtAttr(unix.IFLA_PROTO_DOWN, nl.Uint8Attr(0)))
	}
	if have.dormant {
		req.AddData(nl.NewRtAttr(unix.IFLA_LINKMODE, nl.Uint8Attr(0)))
	}
	if have.Attrs().MasterIndex != 0 && alone(want.Kind) {
		req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(0)))
	}
	b.add(req)
	return r.all(b)
}

// all sends requests that belong together; the error is the first.
func (r *requests) all(b *batch) error {
	failed, err := r.send(b)
	for i := 0; i < len(failed) && err == nil; i++ {
		err = failed[i]
	}
	return err
}

// kindInfo are attributes of a device that only its kind has.
func kindInfo(kind string, knobs ...knob) (info, data *nl.RtAttr) {
	info = nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	data = info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	for _, k := range knobs {
		k.add(data)
	}
	return info, data
}

// setPort sets the flags of a bridge port, and has it forward. The library has a
// call for each of some of the flags, none for bcast_flood and mcast_flood, and a
// port must not be up with half of them. A port without carrier has no state but
// disabled.
func (r *requests) setPort(have *device, p overlay.BridgePort) error {
	b, index := newBatch(2), have.Attrs().Index
	flags := linkRequest(unix.RTM_NEWLINK, index, 0)
	flags.AddData(portInfo(append(newPort(p), have.wrongPort...)...))
	b.add(flags)
	state := linkRequest(unix.RTM_NEWLINK, index, 0)
	state.AddData(portInfo(knob{attr: unix.IFLA_BRPORT_STATE, size: 1, want: portForwarding}))
	b.add(state)
	failed, err := r.send(b)
	if err == nil && failed != nil {
		err = cmp.Or(failed[0], absent(failed[1], unix.ENETDOWN))
	}
	return err
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
	req.AddData(portInfo(newPort(p)...))
	return r.change(req)
}

func portInfo(knobs ...knob) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	for _, k := range knobs {
		k.add(data)
	}
	return info
}

// setTunnel changes a tunnel device in place. The library's LinkModify repeats
// every attribute, and the kernel refuses a request that repeats the port or the
// MTU.
func (r *requests) setTunnel(have *device, local netip.Addr) error {
	req := linkRequest(unix.RTM_NEWLINK, have.Attrs().Index, 0)
	info, data := kindInfo("vxlan", have.wrong...)
	typ, group, none := nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_GROUP, netip.IPv4Unspecified()
	if local.Is6() {
		typ, group, none = nl.IFLA_VXLAN_LOCAL6, nl.IFLA_VXLAN_GROUP6, netip.IPv6Unspecified()
	}
	data.AddRtAttr(typ, local.AsSlice())
	if v, ok := have.Link.(*netlink.Vxlan); ok && v.Group != nil {
		data.AddRtAttr(group, none.AsSlice())
	}
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
		d, err := newDevice(body)
		if err != nil {
			broken = err
			return
		}
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
