package inside

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// Try speaks to the Crossing's Dst from within the namespace at path, empty for the
// host's: a TCP connection that is closed at once, a UDP datagram without content, or
// an ICMP echo. It waits for an answer until ctx ends. Src is the sender's address where
// it is valid.
func Try(ctx context.Context, path string, c overlay.Crossing) (t overlay.Trial, took time.Duration, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	fd, err := socket(ns, c)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	start := time.Now()
	t, err = converse(ctx, fd, c)
	return t, time.Since(start), err
}

// socket opens one in the namespace; it stays there.
func socket(ns *os.File, c overlay.Crossing) (fd int, err error) {
	family, typ, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if c.Dst.Is6() {
		family = unix.AF_INET6
	}
	switch {
	case c.Proto == "udp":
		typ = unix.SOCK_DGRAM
	case c.Proto == "icmp" && c.Dst.Is4():
		typ, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP
	case c.Proto == "icmp":
		typ, proto = unix.SOCK_RAW, unix.IPPROTO_ICMPV6
	}
	err = netns.Within(ns, func() (err error) {
		fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return 0, err
	}
	if c.Src.IsValid() {
		if err := unix.Bind(fd, sockaddr(c.Src, 0)); err != nil {
			return 0, errors.Join(fmt.Errorf("send from %s: %w", c.Src, err), unix.Close(fd))
		}
	}
	return fd, nil
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
}

// converse sends, and says what comes back.
func converse(ctx context.Context, fd int, c overlay.Crossing) (overlay.Trial, error) {
	err := unix.Connect(fd, sockaddr(c.Dst, c.Port))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return verdict(err)
	}
	var echo []byte
	switch c.Proto {
	case "udp":
		err = unix.Send(fd, nil, 0)
	case "icmp":
		if echo, err = echoRequest(c.Dst.Is6()); err != nil {
			return "", err
		}
		err = unix.Send(fd, echo, 0)
	default:
		err = nil
	}
	if err != nil {
		return verdict(err)
	}
	return await(ctx, fd, c)
}

func echoRequest(v6 bool) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("weft why")}}
	if v6 {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// await polls until something comes or ctx ends.
func await(ctx context.Context, fd int, c overlay.Crossing) (overlay.Trial, error) {
	events := int16(unix.POLLIN)
	if c.Proto == "tcp" {
		events = unix.POLLOUT
	}
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(poll, 20)
		switch {
		case ctx.Err() != nil:
			return overlay.TrialSilent, nil
		case errors.Is(err, unix.EINTR) || n == 0:
			continue
		case err != nil:
			return "", os.NewSyscallError("poll", err)
		}
		if failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && failed != 0 {
			return verdict(unix.Errno(failed))
		}
		if c.Proto != "icmp" || echoed(fd, c.Dst.Is6()) {
			return overlay.TrialAnswered, nil
		}
	}
}

// echoed reports whether what came is the answer: a raw socket sees every ICMP message
// from there.
func echoed(fd int, v6 bool) bool {
	buf := make([]byte, 512)
	n, err := unix.Read(fd, buf)
	if err != nil || n < 1 {
		return false
	}
	at, want := 0, byte(ipv6.ICMPTypeEchoReply)
	if !v6 {
		at, want = int(buf[0]&0xf)*4, byte(ipv4.ICMPTypeEchoReply) // behind the IPv4 header
	}
	return n > at && buf[at] == want
}

// verdict is what an error of the kernel says of the way.
func verdict(err error) (overlay.Trial, error) {
	for _, e := range []struct {
		is   unix.Errno
		says overlay.Trial
	}{{unix.ECONNREFUSED, overlay.TrialRefused}, {unix.EACCES, overlay.TrialProhibited}, {unix.EPERM, overlay.TrialProhibited},
		{unix.EMSGSIZE, overlay.TrialTooLarge}, {unix.EHOSTUNREACH, overlay.TrialNoRoute}, {unix.ENETUNREACH, overlay.TrialNoRoute}, {unix.ENETDOWN, overlay.TrialNoRoute}, {unix.ETIMEDOUT, overlay.TrialSilent}} {
		if errors.Is(err, e.is) {
			return e.says, nil
		}
	}
	return "", err
}
