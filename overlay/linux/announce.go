package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// Announce sends a frame for each new hardware address out of the network's bridge, to
// the ports of this host: endpoints, and the host itself. The tunnel device takes the
// frames too, and sends none of them: ARP it answers itself, and for the group of all
// nodes it has no FDB entry.
func (k *Kernel) Announce(_ context.Context, all ...overlay.Announcement) error {
	return netns.Within(k.fabric.ns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		var errs []error
		for _, a := range all {
			bridge, err := k.fabric.number(overlay.BridgeName(a.VNI))
			if err == nil {
				err = unix.Sendto(fd, announcement(a), 0, &unix.SockaddrLinklayer{Ifindex: bridge, Halen: 6})
			}
			if absent(err, unix.ENODEV, unix.ENXIO, unix.ENETDOWN) != nil { // without bridge there is nobody to tell
				errs = append(errs, fmt.Errorf("announce %s on %s: %w", a.Addr, overlay.BridgeName(a.VNI), err))
			}
		}
		return errors.Join(errs...)
	})
}

func announcement(a overlay.Announcement) []byte {
	if a.Addr.Is4() {
		return arpAnnouncement(a)
	}
	return neighbourAdvertisement(a)
}

// arpAnnouncement is a gratuitous request (RFC 5227, section 2.3).
func arpAnnouncement(a overlay.Announcement) []byte {
	addr := a.Addr.As4()
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, a.MAC[:]...)
	f = append(f, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, a request
	f = append(append(f, a.MAC[:]...), addr[:]...)
	return append(append(f, make([]byte, 6)...), addr[:]...)
}

// neighbourAdvertisement is an unsolicited one that overrides (RFC 4861, section
// 7.2.6), to all nodes.
func neighbourAdvertisement(a overlay.Announcement) []byte {
	const override = 0x20
	from, to := a.Addr.As16(), netip.IPv6LinkLocalAllNodes().As16()
	body := append([]byte{136, 0, 0, 0, override, 0, 0, 0}, from[:]...)
	body = append(append(body, 2, 1), a.MAC[:]...) // target link-layer address
	pseudo := append(append(append([]byte{}, from[:]...), to[:]...), 0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, a.MAC[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(f, from[:]...), to[:]...), body...)
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
