package linux

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// BulkSocket sends as TCP does on the tunnel device of a probe network: the kernel is
// handed one packet of many segments, to cut it (GSO) and to fill in the checksums, or to
// leave both to the network device. Nobody answers: the packets are for no address that
// a host has.
type BulkSocket struct {
	packetFile
	mac overlay.MAC
}

// Addresses of a bulk packet (RFC 5737), and its ports.
var (
	bulkFrom = netip.MustParseAddr("192.0.2.1").As4()
	bulkTo   = netip.MustParseAddr("198.51.100.1").As4()
)

const bulkPort = 9 // discard (RFC 863)

// Sizes of headers, in bytes.
const (
	vnetSize     = 10 // of struct virtio_net_hdr, in linux/virtio_net.h
	ethernetSize = 14
	tcpSize      = 20
	bulkHeaders  = ethernetSize + ipv4Size + tcpSize
)

// What struct virtio_net_hdr says of a packet.
const (
	vnetNeedsChecksum = 1
	vnetDataValid     = 2
	vnetTCPv4         = 1
)

// OpenBulk opens a bulk socket on the network's tunnel device. The error is
// unix.ENODEV as long as there is none.
func (k *Kernel) OpenBulk(vni uint32) (*BulkSocket, error) {
	dev, err := k.fabric.link(overlay.VXLANName(vni))
	if err != nil {
		return nil, fmt.Errorf("bulk device %s: %w", overlay.VXLANName(vni), err)
	}
	s := &BulkSocket{}
	copy(s.mac[:], dev.Attrs().HardwareAddr)
	err = netns.Within(k.fabric.ns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.file = os.NewFile(uintptr(fd), "bulk")
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: dev.Attrs().Index}))
	})
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("bulk: %w", err)
	}
	return s, nil
}

// Send hands the kernel one packet for a member's probe address, with a number in each of
// its segments. segment is the largest inner packet, in bytes.
func (s *BulkSocket) Send(to overlay.MAC, number uint32, size, segment int) error {
	b := make([]byte, vnetSize+bulkHeaders+size)
	b[0], b[1] = vnetNeedsChecksum, vnetTCPv4
	binary.NativeEndian.PutUint16(b[2:], bulkHeaders)
	binary.NativeEndian.PutUint16(b[4:], uint16(segment-ipv4Size-tcpSize))
	binary.NativeEndian.PutUint16(b[6:], ethernetSize+ipv4Size)
	binary.NativeEndian.PutUint16(b[8:], 16) // of the checksum in TCP's header
	frame := b[vnetSize:]
	copy(frame, to[:])
	copy(frame[6:], s.mac[:])
	binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
	writeBulk(frame[ethernetSize:], number)
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		_, sent = unix.Write(int(fd), b)
		return sent != unix.EAGAIN
	})
	if err == nil {
		err = os.NewSyscallError("write", sent)
	}
	return err
}

// writeBulk fills in the headers of IPv4 and TCP. TCP's checksum is that of the pseudo
// header (RFC 9293, section 3.1): whoever cuts the packet goes on from there.
func writeBulk(p []byte, number uint32) {
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[6:], 0x4000) // DF
	copy(p[12:], bulkFrom[:])
	copy(p[16:], bulkTo[:])
	binary.BigEndian.PutUint16(p[10:], ^sum(0, p[:ipv4Size]))
	tcp := p[ipv4Size:]
	binary.BigEndian.PutUint16(tcp, bulkPort)
	binary.BigEndian.PutUint16(tcp[2:], bulkPort)
	binary.BigEndian.PutUint32(tcp[8:], number) // as if it acknowledged that
	tcp[12], tcp[13] = tcpSize/4<<4, 0x10       // ACK
	binary.BigEndian.PutUint16(tcp[14:], 0xffff)
	binary.BigEndian.PutUint16(tcp[16:], sum(pseudo(p), nil))
}

// pseudo is the sum of the pseudo header of a TCP segment.
func pseudo(p []byte) uint32 {
	total := uint32(unix.IPPROTO_TCP) + uint32(len(p)-ipv4Size)
	for i := 12; i < ipv4Size; i += 2 {
		total += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	return total
}

// sum is the sum of the Internet checksum (RFC 1071).
func sum(total uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// Receive waits for a packet of bulk and returns its sender, number and how many bytes it
// carries: a segment, or several that were put together again. It returns ctx's error
// when ctx ends. One whose checksum is wrong carries none, as TCP would drop it.
func (s *BulkSocket) Receive(ctx context.Context, buf []byte) (from overlay.MAC, number uint32, size int, err error) {
	for {
		n, _, err := s.receive(ctx, buf)
		if err != nil {
			return from, 0, 0, err
		}
		if from, number, size, ok := readBulk(buf[:n]); ok {
			return from, number, size, nil
		}
	}
}

// readBulk reads a packet as the kernel hands it over; of others ok is false.
func readBulk(b []byte) (from overlay.MAC, number uint32, size int, ok bool) {
	if len(b) < vnetSize+bulkHeaders {
		return from, 0, 0, false
	}
	flags, frame := b[0], b[vnetSize:]
	p := frame[ethernetSize:]
	length := int(binary.BigEndian.Uint16(p[2:]))
	if p[0] != 0x45 || p[9] != unix.IPPROTO_TCP || [4]byte(p[16:]) != bulkTo || length < ipv4Size+tcpSize || length > len(p) {
		return from, 0, 0, false
	}
	p = p[:length]
	tcp := p[ipv4Size:]
	if binary.BigEndian.Uint16(tcp[2:]) != bulkPort || tcp[12]>>4 != tcpSize/4 {
		return from, 0, 0, false
	}
	copy(from[:], frame[6:])
	number, size = binary.BigEndian.Uint32(tcp[8:]), len(tcp)-tcpSize
	if flags&(vnetNeedsChecksum|vnetDataValid) == 0 && sum(pseudo(p), tcp) != 0xffff {
		size = 0
	}
	return from, number, size, true
}
