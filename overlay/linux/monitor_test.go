package linux

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func readNow(fd int, buf []byte) (int, error) {
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	return n, err
}

func messageName(typ uint16, body []byte) string {
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, _ := parseLink(body)
		return fmt.Sprintf("link message %d for %s", typ, l.name)
	}
	return fmt.Sprintf("message %d", typ)
}
