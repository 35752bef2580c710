package linux

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch are requests that go to the kernel with one system call. The library
// sends one at a time and waits for each: a fifth of the rate.
type batch struct {
	b  []byte
	at []int // where each message begins
}

func newBatch(n int) *batch { return &batch{b: make([]byte, 0, 64*n), at: make([]int, 0, n)} }

// add adds a request.
func (b *batch) add(req *nl.NetlinkRequest) {
	b.at = append(b.at, len(b.b))
	b.b = append(b.b, req.Serialize()...)
}

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
