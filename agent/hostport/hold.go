package hostport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// holdSocket takes a port of this host with a socket of ours, so that no other
// program can: what is published is translated before any socket sees it, and a
// second taker would never hear of a client. Port 0 takes any free one. It ends
// with ctx, which the returned function does not wait for.
func holdSocket(ctx context.Context, p Port) (got uint16, release func(), err error) {
	addr := p.Addr
	every := !addr.IsValid()
	if every {
		addr = netip.IPv4Unspecified()
	}
	at := netip.AddrPortFrom(addr, p.Number).String()
	var c net.ListenConfig
	if p.Proto == syscall.IPPROTO_UDP {
		socket, err := c.ListenPacket(ctx, "udp4", at)
		if err != nil {
			return 0, nil, err
		}
		_ = socket.(*net.UDPConn).SetReadBuffer(1) // nobody reads
		return socket.LocalAddr().(*net.UDPAddr).AddrPort().Port(), func() { socket.Close() }, nil
	}
	l, err := c.Listen(ctx, "tcp4", at)
	if err != nil {
		return 0, nil, err
	}
	got = l.Addr().(*net.TCPAddr).AddrPort().Port()
	ctx, cancel := context.WithCancel(ctx)
	release = func() { cancel(); l.Close() }
	go accept(l, refuse)
	if every {
		l6, err := c.Listen(ctx, "tcp6", netip.AddrPortFrom(netip.IPv6Unspecified(), got).String())
		switch {
		case err == nil:
			stop := release
			release = func() { stop(); l6.Close() }
			places := make(chan struct{}, maxRelayed)
			go accept(l6, func(c *net.TCPConn) {
				select {
				case places <- struct{}{}:
					defer func() { <-places }()
					relay(ctx, c, got)
				default:
					refuse(c)
				}
			})
		case errors.Is(err, syscall.EADDRINUSE):
			release()
			return 0, nil, err
		} // else this host has no IPv6
	}
	return got, release, nil
}

// acceptAgain is the pause after a connection that could not be taken.
const acceptAgain = 100 * time.Millisecond

// maxRelayed bounds a port's clients over IPv6: each costs half a dozen of the
// files that all of the agent needs.
const maxRelayed = 1000

func accept(l net.Listener, serve func(*net.TCPConn)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no more files for a moment, say
			time.Sleep(acceptAgain)
			continue
		}
		go serve(c.(*net.TCPConn))
	}
}

// refuse answers a client that came before its port was translated as if nobody
// listened.
func refuse(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// relay serves a client over IPv6, ::1 above all: networks have IPv4 alone, and
// what this host connects to at 127.0.0.1 is translated.
func relay(ctx context.Context, client *net.TCPConn, port uint16) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if err != nil {
		refuse(client)
		return
	}
	server := c.(*net.TCPConn)
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	both.Go(func() { pour(server, client) })
	both.Go(func() { pour(client, server) })
	both.Wait()
	client.Close()
	server.Close()
}

// pour copies one direction to its end.
func pour(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
	_ = from.CloseRead()
}
