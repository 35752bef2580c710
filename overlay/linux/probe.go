package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// probeType is the ethertype of probe frames: the first one for local
// experiments (IEEE 802, clause 9.2.3).
const probeType = 0x88b5

// ProbeSocket sends and receives frames on the tunnel device of a probe
// network. They take the way of every other frame: FDB, UDP, the host's rules.
type ProbeSocket struct {
	packetFile
	index int
}

// packetFile is a packet socket.
type packetFile struct {
	file *os.File
	raw  interface {
		Control(func(fd uintptr)) error
		Read(func(fd uintptr) bool) error
		Write(func(fd uintptr) bool) error
	}
}

// OpenProbe opens a socket on the network's tunnel device. The error is
// unix.ENODEV as long as there is none.
func (k *Kernel) OpenProbe(vni uint32) (*ProbeSocket, error) {
	dev, err := k.fabric.link(overlay.VXLANName(vni))
	if err != nil {
		return nil, fmt.Errorf("probe device %s: %w", overlay.VXLANName(vni), err)
	}
	s := &ProbeSocket{index: dev.Attrs().Index}
	err = netns.Within(k.fabric.ns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(bigEndian(probeType)))
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.file = os.NewFile(uintptr(fd), "probe")
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(probeType), Ifindex: dev.Attrs().Index}))
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.raw, err = s.file.SyscallConn()
	return s, err
}

// Close ends a Receive that waits.
func (f *packetFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Send sends one frame to a member's probe address.
func (s *ProbeSocket) Send(to overlay.MAC, payload []byte) error {
	addr := &unix.SockaddrLinklayer{Protocol: bigEndian(probeType), Ifindex: s.index, Halen: 6}
	copy(addr.Addr[:], to[:])
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), payload, 0, addr)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, os.NewSyscallError("sendto", sent))
}

// Receive waits for a frame and returns its payload and the sender's address.
// It returns ctx's error when ctx ends.
func (s *ProbeSocket) Receive(ctx context.Context, buf []byte) (n int, from overlay.MAC, err error) {
	n, ll, err := s.receive(ctx, buf)
	copy(from[:], ll.Addr[:])
	return n, from, err
}

// receive waits for a packet, of which buf takes what fits.
func (f *packetFile) receive(ctx context.Context, buf []byte) (n int, from unix.SockaddrLinklayer, err error) {
	if err := f.file.SetReadDeadline(time.Time{}); err != nil {
		return 0, from, err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var sa unix.Sockaddr
	var got error
	err = f.raw.Read(func(fd uintptr) bool {
		n, sa, got = unix.Recvfrom(int(fd), buf, 0)
		return !errors.Is(got, unix.EAGAIN)
	})
	if err = errors.Join(err, os.NewSyscallError("recvfrom", got)); err != nil {
		return 0, from, errors.Join(ctx.Err(), err)
	}
	if ll, ok := sa.(*unix.SockaddrLinklayer); ok {
		from = *ll
	}
	return n, from, nil
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }
