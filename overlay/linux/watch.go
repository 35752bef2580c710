package linux

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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
	for _, w := range []watcher{{
		space: k.fabric, groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH},
		concerns: func(syscall.NetlinkMessage) bool { return true },
	}, {
		space: k.host, groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
			unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
			unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE},
		concerns: func(m syscall.NetlinkMessage) bool { return k.host.hostChange(m) || k.quiet.concerns(m) },
	}} {
		wg.Go(func() { w.run(ctx, k.log, signal) })
	}
	wg.Go(func() { k.watchFilters(ctx, signal) })
	wg.Go(func() { k.quiet.run(ctx, signal) })
	go func() {
		wg.Wait()
		close(changes)
	}()
	return changes
}

// watcher reads the notifications of a namespace.
type watcher struct {
	space    *space
	groups   []uint // RTNLGRP_…
	concerns func(syscall.NetlinkMessage) bool
}

// hostChange reports whether a message of the host namespace concerns us.
func (s *space) hostChange(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := netlink.LinkDeserialize(nil, m.Data)
		return err == nil && (isGateway(l) || l.Type() == "bridge")
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return s.addressConcerns(m.Data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		// One that replaced one of ours tells of itself alone.
		return m.Header.Flags&unix.NLM_F_REPLACE != 0 || s.routeConcerns(m.Data)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return true // another table may be asked before ours
	}
	return false
}

func (s *space) addressConcerns(body []byte) bool {
	if len(body) < unix.SizeofIfAddrmsg {
		return false
	}
	if s.index.isOurs(int(nl.DeserializeIfAddrmsg(body).Index)) {
		return true
	}
	for typ, data := range attributes(body, unix.SizeofIfAddrmsg) {
		if a, _ := netip.AddrFromSlice(data); typ == unix.IFA_LOCAL && a == overlay.DNSAddr {
			return true
		}
	}
	return false
}

// routeConcerns: a route by another uplink may be the new default, and one into a
// subnet of ours takes packets from us.
func (s *space) routeConcerns(body []byte) bool {
	if len(body) < unix.SizeofRtMsg {
		return false
	}
	r := nl.DeserializeRtMsg(body)
	if r.Protocol == overlay.Protocol || r.Dst_len == 0 || s.watches(r, body) {
		return true
	}
	for typ, data := range attributes(body, unix.SizeofRtMsg) {
		if typ == unix.RTA_OIF && s.index.isOurs(int(asU32(data))) {
			return true
		}
	}
	return false
}

// reopenAfter keeps a subscription that cannot be opened from spinning.
const reopenAfter = time.Second

// run reads notifications until ctx ends. When the kernel had to drop some
// (ENOBUFS), or the socket failed, it subscribes anew and signals: anything may
// have changed.
func (w *watcher) run(ctx context.Context, log *slog.Logger, signal func()) {
	for ctx.Err() == nil {
		sub, err := w.space.subscribe(w.groups...)
		if err == nil {
			signal()
			err = follow(ctx, sub, signal, w.concerns)
		}
		if ctx.Err() != nil {
			return
		}
		log.Warn("kernel notifications lost", "err", err)
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

func (s *space) subscribe(groups ...uint) (sub *os.File, err error) {
	err = s.change(func(*requests) error {
		sub, err = subscribe(s.ns, groups...)
		return err
	})
	return sub, err
}

// receiveBuffer holds the largest notification.
const receiveBuffer = 64 << 10

// follow signals for each datagram that concerns us, until the socket fails or
// ctx ends.
func follow(ctx context.Context, sub *os.File, signal func(), concerns func(syscall.NetlinkMessage) bool) error {
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
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(messages, concerns) {
			signal()
		}
	}
}
