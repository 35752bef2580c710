package linux

import (
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func readNow(fd int, buf []byte) (int, error) {
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	return n, err
}

func messageName(m syscall.NetlinkMessage) string {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if l, err := netlink.LinkDeserialize(nil, m.Data); err == nil {
			return fmt.Sprintf("link message %d for %s", m.Header.Type, l.Attrs().Name)
		}
	}
	return fmt.Sprintf("message %d", m.Header.Type)
}
