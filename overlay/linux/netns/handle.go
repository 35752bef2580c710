package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Timeout bounds the wait for an answer of the kernel: one that was lost must
// not block for ever. The agent's watchdog waits for 30 s.
const Timeout = 15 * time.Second

// Handle opens a netlink handle in the namespace for the given families
// (unix.NETLINK_ROUTE, …). The handle stays there, whichever thread uses it and
// whatever becomes of ns.
func Handle(ns *os.File, families ...int) (*netlink.Handle, error) {
	at, err := number(ns)
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandleAt(at, families...)
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", ns.Name(), err)
	}
	if err := h.SetSocketTimeout(Timeout); err != nil {
		h.Close()
		return nil, err
	}
	_ = h.SetStrictCheck(true) // an old kernel does not filter dumps, and answers all the same
	return h, nil
}

// dumpAttempts bounds the retries of a dump during which the table changed: the
// kernel then marks it as possibly incomplete.
const dumpAttempts = 30

// Repeat makes a request for a whole table, and makes it again when the kernel says
// that the table changed meanwhile.
func Repeat[T any](list func() (T, error)) (all T, err error) {
	for range dumpAttempts {
		all, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return all, err
}

// Socket opens an rtnetlink socket in the namespace, as Handle; with groups
// (unix.RTNLGRP_…) it receives their notifications.
func Socket(ns *os.File, groups ...uint) (*nl.NetlinkSocket, error) {
	at, err := number(ns)
	if err != nil {
		return nil, err
	}
	s, err := nl.SubscribeAt(at, vishnetns.None(), unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", ns.Name(), err)
	}
	timeout := unix.NsecToTimeval(Timeout.Nanoseconds())
	return s, s.SetReceiveTimeout(&timeout)
}

// number is the namespace as the library takes it, which would open a socket
// here for one that was closed.
func number(ns *os.File) (vishnetns.NsHandle, error) {
	at := vishnetns.NsHandle(ns.Fd())
	if !at.IsOpen() {
		return at, fmt.Errorf("network namespace %s: %w", ns.Name(), fs.ErrClosed)
	}
	return at, nil
}
