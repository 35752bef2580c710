package linux

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay/linux/netns"
)

// Tap sees the datagrams of the tunnel's port at all devices of the host's namespace:
// those that come in before any packet filter, those that go out after every one. It
// sees VXLAN of one network alone.
type Tap struct {
	packetFile
	v6 bool
}

// OpenTap opens a tap on the tunnel's port, for datagrams of a network.
func (k *Kernel) OpenTap(v6 bool, port uint16, vni uint32) (*Tap, error) {
	filter, err := bpf.Assemble(tapFilter(v6, port, vni))
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	t := &Tap{v6: v6}
	err = netns.Within(k.host.ns, func() error {
		// Without a protocol nothing is received before the filter is there.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		t.file = os.NewFile(uintptr(fd), "tap")
		return os.NewSyscallError("socket", err)
	})
	if err == nil {
		t.raw, err = t.file.SyscallConn()
	}
	if err == nil {
		err = t.attach(filter)
	}
	if err != nil {
		return nil, fmt.Errorf("tap: %w", errors.Join(err, t.Close()))
	}
	return t, nil
}

// attach has what passes the filter received.
func (t *Tap) attach(filter []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		code[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	var set, bound error
	err := t.raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
		if set == nil {
			// Of all protocols: packets for the sockets of one come only after the ingress hook.
			bound = unix.Bind(int(fd), &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL)})
		}
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", set), os.NewSyscallError("bind", bound))
}

// What a datagram has before its payload, in bytes.
const (
	ipv4Size = 20 // without options, which no tunnel packet has
	ipv6Size = 40
	udpSize  = 8
)

// tapFilter takes the VXLAN of one network on a port (RFC 7348, section 5), with
// neither options nor extension headers, as the kernel sends it.
func tapFilter(v6 bool, port uint16, vni uint32) []bpf.Instruction {
	const drop = 12 // the last instruction
	size, protocolAt, first := uint32(ipv4Size), uint32(9), uint32(0x45)
	if v6 {
		size, protocolAt, first = ipv6Size, 6, 0x60
	}
	mask := uint32(0xff)
	if v6 {
		mask = 0xf0
	}
	code := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: first},
		bpf.LoadAbsolute{Off: protocolAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP},
		bpf.LoadAbsolute{Off: size + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port)},
		bpf.LoadAbsolute{Off: size + udpSize + 4, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 8},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: vni},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	}
	for i, c := range code {
		if j, ok := c.(bpf.JumpIf); ok {
			j.SkipTrue = uint8(drop - i - 2)
			code[i] = j
		}
	}
	return code
}

// Receive waits for a datagram and returns its payload, and whether this host sent it.
// It returns ctx's error when ctx ends.
func (t *Tap) Receive(ctx context.Context, buf []byte) (n int, outgoing bool, err error) {
	header := ipv4Size + udpSize
	if t.v6 {
		header = ipv6Size + udpSize
	}
	whole := make([]byte, header+len(buf))
	n, from, err := t.receive(ctx, whole)
	if err != nil {
		return 0, false, err
	}
	return copy(buf, whole[min(header, n):n]), from.Pkttype == unix.PACKET_OUTGOING, nil
}
