package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// requests are what the netlink library has no call for. This file alone knows
// how a message is laid out (netlink(7), rtnetlink(7)); the sentence above each
// request says what the library lacks.
//
// There are two sockets. With an error the kernel sends a sentence to whoever
// asks for it, and the library takes the sentence at the end of a dump for an
// echo of the request, whose length it then believes: it would panic. So the
// socket for dumps does not ask.
type requests struct {
	changes, dumps *nl.SocketHandle
}

// socketBuffer holds the errors of a whole batch: they are there before any is
// read.
const socketBuffer = 8 << 20

func openRequests(ns *os.File) (*requests, error) {
	r := &requests{}
	for _, s := range []**nl.SocketHandle{&r.changes, &r.dumps} {
		socket, err := netns.Socket(ns)
		if err != nil {
			r.close()
			return nil, err
		}
		*s = &nl.SocketHandle{Socket: socket}
		_ = socket.SetReceiveBufferSize(socketBuffer, true)
	}
	_ = r.changes.Socket.SetExtAck(true) // an old kernel without sentences answers all the same
	return r, nil
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
	req.Flags |= unix.NLM_F_ACK
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.changes}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
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

// startPort is setPort that also sets MTU and alias and brings the device up, in
// one request: the library makes four, each takes the kernel's configuration
// lock, and an endpoint is attached while somebody waits.
func (r *requests) startPort(index int, p overlay.BridgePort, mtu int, alias string) error {
	req := linkRequest(unix.RTM_NEWLINK, index, unix.IFF_UP)
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

// batch are requests that go to the kernel with one system call. The library
// sends one at a time and waits for each: a fifth of the rate.
type batch struct {
	b  []byte
	at []int // where each message begins
}

func newBatch(n int) *batch { return &batch{b: make([]byte, 0, 64*n), at: make([]int, 0, n)} }

// entry adds an FDB or neighbour entry. It is laid out by hand: the library's
// Serialize makes 13 objects of each, and that costs a third of the rate.
func (b *batch) entry(typ, flags uint16, n *neighbour) {
	start := len(b.b)
	b.at = append(b.at, start)
	b.b = append(b.b, make([]byte, unix.SizeofNlMsghdr)...)
	ndmsg := netlink.Ndmsg{Family: n.family, Index: uint32(n.dev), State: n.state, Flags: n.flags}
	b.b = append(b.b, ndmsg.Serialize()...)
	if dst := n.dst.As16(); n.dst.Is4() {
		b.attr(netlink.NDA_DST, dst[12:])
	} else if n.dst.IsValid() {
		b.attr(netlink.NDA_DST, dst[:])
	}
	b.attr(netlink.NDA_LLADDR, n.mac[:])
	if n.protocol != 0 {
		b.attr(netlink.NDA_PROTOCOL, []byte{n.protocol})
	}
	binary.NativeEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
	binary.NativeEndian.PutUint16(b.b[start+4:], typ)
	binary.NativeEndian.PutUint16(b.b[start+nlFlags:], flags|unix.NLM_F_REQUEST)
}

func (b *batch) attr(typ uint16, data []byte) {
	size := unix.SizeofRtAttr + len(data)
	b.b = binary.NativeEndian.AppendUint16(b.b, uint16(size))
	b.b = binary.NativeEndian.AppendUint16(b.b, typ)
	b.b = append(append(b.b, data...), make([]byte, align(size)-size)...)
}

// Places in a struct nlmsghdr.
const nlFlags, nlSeq = 6, 8

// number gives the messages their sequence numbers, and asks for an answer to
// the last.
func (b *batch) number(first uint32) {
	for i, at := range b.at {
		binary.NativeEndian.PutUint32(b.b[at+nlSeq:], first+uint32(i))
	}
	last := b.b[b.at[len(b.at)-1]+nlFlags:]
	binary.NativeEndian.PutUint16(last, binary.NativeEndian.Uint16(last)|unix.NLM_F_ACK)
}

// send returns the error of each message, nil when all went well. Only the last
// asks for an answer; the kernel answers to a failed one unasked.
func (r *requests) send(b *batch) (failed []error, err error) {
	s := r.changes.Socket
	s.Lock()
	defer s.Unlock()
	n := uint32(len(b.at))
	first := atomic.AddUint32(&r.changes.Seq, n) - n + 1
	b.number(first)
	if err := unix.Sendto(s.GetFd(), b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	for {
		messages, _, err := s.Receive()
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		for _, m := range messages {
			i := m.Header.Seq - first
			if m.Header.Type != unix.NLMSG_ERROR || i >= n {
				continue
			}
			if err := parseError(m); err != nil {
				if failed == nil {
					failed = make([]error, n)
				}
				failed[i] = err
			}
			if i == n-1 {
				return failed, nil
			}
		}
	}
}

// parseError reads a struct nlmsgerr: an errno, the request, and maybe the
// kernel's sentence.
func parseError(m syscall.NetlinkMessage) error {
	code := int32(asU32(m.Data))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	const echo = 4
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 || len(m.Data) < echo+unix.SizeofNlMsghdr {
		return errno
	}
	for typ, data := range attributes(m.Data, echo+align(int(asU32(m.Data[echo:])))) {
		if typ == nl.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w: %s", errno, unix.ByteSliceToString(data))
		}
	}
	return errno
}

// attributes walks the attributes behind a header and stops at the first
// malformed one. The library's ParseRouteAttr makes a list of them, which costs
// more than all else in a dump of entries.
func attributes(b []byte, header int) iter.Seq2[uint16, []byte] {
	b = b[min(max(header, 0), len(b)):]
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) & nl.NLA_TYPE_MASK
			if size < unix.SizeofRtAttr || size > len(b) || !yield(typ, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// The values of attributes; a short one reads as zero.

func asU8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func asU32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
