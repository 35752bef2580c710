package linux

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// A subscription that the kernel could not keep up with must fail, so that the
// watcher opens a new one and has everything read again.
func TestOverrunSubscriptionFails(t *testing.T) {
	h := newHost(t)
	s := h.manyRemotes(2000)
	entries := entriesOf(s)
	s.Networks[0].Remotes = nil
	h.set(t, s)
	sub, err := h.k.fabric.subscribe(unix.RTNLGRP_NEIGH)
	must(t, err)
	raw, err := sub.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096)
	}))
	must(t, err)
	must(t, h.k.Put(t.Context(), entries...))
	all := func(syscall.NetlinkMessage) bool { return true }
	if err := follow(t.Context(), sub, func() {}, all); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("error = %v, want ENOBUFS", err)
	}
}

// A dump that the kernel had to interrupt is repeated, so that entries which
// are there throughout are listed however busy the table is.
func TestListWhileTheTablesChange(t *testing.T) {
	h := newHost(t)
	s := h.manyRemotes(3000)
	h.set(t, s)
	churn := entriesOf(s)[:2000]
	stay := entriesOf(s)[2000:]
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
				if err := errors.Join(h.k.Delete(t.Context(), churn...), h.k.Put(t.Context(), churn...)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	for range 5 {
		listed := map[any]bool{}
		for _, o := range h.list(t) {
			listed[o.Key()] = true
		}
		for _, o := range stay {
			if !listed[o.Key()] {
				t.Fatalf("not listed while others changed: %s", o)
			}
		}
	}
	close(stop)
	must(t, <-done)
}

// A device that becomes the uplink has to forward: it is looked at at once.
func TestAnotherUplinkIsNoticed(t *testing.T) {
	h := newHost(t)
	h.in(t, "sysctl -qw net.ipv4.ip_forward=1")
	sh(t, "ip -n %s route add default via 192.0.2.254", h.ns)
	h.set(t, h.state(t, "one network"))
	sh(t, "ip -n %s link add ppp0 type veth peer name far1; ip -n %s link set far1 up; ip -n %s link set ppp0 up; ip -n %s addr add 198.51.100.2/24 dev ppp0", h.ns, h.ns, h.ns, h.ns)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := h.k.Changes(ctx)
	quiet := func() {
		for {
			select {
			case <-changes:
			case <-time.After(300 * time.Millisecond):
				return
			}
		}
	}
	for what, happens := range map[string]func(){
		"another default route": func() {
			sh(t, "ip -n %s route replace default via 198.51.100.1 dev ppp0; ip -n %s route del default", h.ns, h.ns)
		},
		"forwarding switched off": func() { h.in(t, "sysctl -qw net.ipv4.ip_forward=0") },
	} {
		quiet()
		happens()
		select {
		case <-changes:
		case <-time.After(3 * time.Second):
			t.Errorf("%s: nothing is signalled", what)
		}
	}
}

// What was repaired and broken in the same way again before anybody looked is noticed,
// and a host on which nothing happens is left in peace.
func TestSettingBrokenTwiceIsNoticedTwice(t *testing.T) {
	h := newHost(t)
	h.set(t, h.state(t, "one network"))
	for range 2 {
		h.list(t)
	}
	if h.k.quiet.differs() {
		t.Fatal("nothing happened, and it is to be looked at")
	}
	for range 3 {
		h.in(t, "sysctl -qw net.ipv4.conf.g001000.arp_ignore=8")
		if !h.k.quiet.differs() {
			t.Fatal("not noticed")
		}
		h.list(t)
		must(t, h.k.Put(t.Context(), overlay.Sysctl{Name: "net.ipv4.conf.g001000.arp_ignore", Value: "1"}))
	}
	h.list(t)
	if h.k.quiet.differs() {
		t.Error("it does not end")
	}
}
