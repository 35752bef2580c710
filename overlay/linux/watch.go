package linux

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// Changes signals that something of ours may have changed in either namespace.
// Our own changes are signalled too: the kernel does not say who made an FDB
// entry. Of the host's own devices only bridges are looked at.
func (k *Kernel) Changes(ctx context.Context) <-chan struct{} {
	changes := make(chan struct{}, 1)
	signal := func() {
		select {
		case changes <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		k.watch(ctx, k.fabric, signal, func(header, []byte) bool { return true },
			unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH)
	})
	wg.Go(func() {
		k.watch(ctx, k.host, signal, k.hostChange, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
			unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	})
	wg.Go(func() { k.watchFilters(ctx, signal) })
	go func() {
		wg.Wait()
		close(changes)
	}()
	return changes
}

// hostChange reports whether a message of the host namespace concerns us.
func (k *Kernel) hostChange(h header, body []byte) bool {
	switch h.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, ok := parseLink(body)
		return ok && (isGateway(&l) || l.kind == "bridge")
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := parseAddress(body)
		return ok && (k.ourDevice(a.dev) || a.prefix.Addr() == overlay.DNSAddr)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, ok := parseRoute(body)
		// A default route may be by another uplink, and one that replaced one of ours
		// tells of itself alone.
		return ok && (r.protocol == overlay.Protocol || k.ourDevice(r.dev) || h.flags&unix.NLM_F_REPLACE != 0 ||
			r.table == unix.RT_TABLE_MAIN && r.dst.Bits() == 0)
	case unix.RTM_NEWNETCONF:
		return forwardingChanged(body)
	}
	return false
}

// forwardingChanged reports whether a message says that all devices forward now, or
// do so no longer: whoever writes net.ipv4.ip_forward writes it for every one, those
// that we have forward among them (linux/netconf.h).
func forwardingChanged(body []byte) bool {
	const (
		family     = 4 // bytes of a struct netconfmsg, with its padding
		ifindex    = 1
		forwarding = 2
		all        = 1<<32 - 1
	)
	var ofAll, forwards bool
	for typ, data := range attributes(body[min(family, len(body)):]) {
		ofAll = ofAll || typ == ifindex && asU32(data) == all
		forwards = forwards || typ == forwarding
	}
	return ofAll && forwards
}

func (k *Kernel) ourDevice(index int) bool {
	k.host.index.mu.Lock()
	defer k.host.index.mu.Unlock()
	for name, i := range k.host.index.index {
		if i == index {
			return ours(name)
		}
	}
	return false
}

// reopenAfter keeps a subscription that cannot be opened from spinning.
const reopenAfter = time.Second

// watch reads notifications until ctx ends. When the kernel had to drop some
// (ENOBUFS), or the socket failed, it subscribes anew and signals: anything may
// have changed.
func (k *Kernel) watch(ctx context.Context, s *space, signal func(), concerns func(header, []byte) bool, groups ...uint32) {
	for ctx.Err() == nil {
		sub, err := s.subscribe(groups...)
		if err == nil {
			signal()
			err = follow(ctx, sub, signal, concerns)
		}
		if ctx.Err() != nil {
			return
		}
		k.log.Warn("kernel notifications lost", "err", err)
		signal()
		if sub == nil {
			pause(ctx, reopenAfter)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// subscribe opens a socket for notifications of groups in the namespace.
func (s *space) subscribe(groups ...uint32) (*os.File, error) {
	var fd int
	err := within(s.ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(g)); err != nil {
			unix.Close(fd)
			return nil, os.NewSyscallError("subscribe", err)
		}
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// follow signals for each datagram that concerns us, until the socket fails or
// ctx ends.
func follow(ctx context.Context, sub *os.File, signal func(), concerns func(header, []byte) bool) error {
	stop := context.AfterFunc(ctx, func() { sub.Close() })
	defer func() {
		if stop() {
			sub.Close()
		}
	}()
	buf := make([]byte, receiveBuffer)
	for {
		n, err := sub.Read(buf)
		if err != nil {
			return err
		}
		found := false
		messages(buf[:n], func(h header, body []byte) { found = found || concerns(h, body) })
		if found {
			signal()
		}
	}
}
