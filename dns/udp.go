package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// udpReaders is how many goroutines serve one socket. Each reads, answers and
// writes by itself, so nothing is queued outside the kernel's own buffer, and
// a flood costs no memory. More than a few only fight for the socket. An engine's
// own resolver stands before the other ways, and one reader keeps up with it.
func udpReaders(w way) int {
	if w != direct {
		return 1
	}
	return min(4, runtime.GOMAXPROCS(0))
}

// maxQuery in bytes: a name of 255 bytes and EDNS options fit several times.
const maxQuery = 4096

func (s *Server) serveUDP(ctx context.Context, sock *net.UDPConn, key listenKey) {
	for range udpReaders(key.way) {
		s.tasks.Go(func() { s.readUDP(ctx, sock, key) })
	}
}

// readUDP answers what comes in until the socket is closed. What has to go
// upstream is handed on: it takes up to 4.5 s, and others are waiting.
func (s *Server) readUDP(ctx context.Context, sock *net.UDPConn, key listenKey) {
	in, out := make([]byte, maxQuery), make([]byte, 0, maxQuery)
	for {
		n, peer, err := sock.ReadFromUDPAddrPort(in)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier reply: the socket is fine
		}
		from := source{key.device, plain(peer.Addr())}
		reply, upstream := s.handle(in[:n], from, key, out)
		if upstream != nil && !s.later(from, func() { s.writeUDP(sock, s.fetch(s.ctx, upstream), key, peer) }) {
			reply = s.overloaded(upstream, out)
		}
		s.writeUDP(sock, reply, key, peer)
	}
}

// writeUDP replies from the socket that was asked, and so from the address that
// the client expects. A reply that cannot be sent is lost as any datagram may
// be; the client asks again.
func (s *Server) writeUDP(sock *net.UDPConn, reply []byte, key listenKey, peer netip.AddrPort) {
	if len(reply) == 0 {
		return
	}
	if oob := s.wayHome(key, peer.Addr()); oob != nil {
		_, _, _ = sock.WriteMsgUDPAddrPort(reply, oob, peer)
		return
	}
	_, _ = sock.WriteToUDPAddrPort(reply, peer)
}

// wayHome is needed by the host itself when it asked from an address that is
// not the gateway port's: bound to that port, the socket would send the reply
// out there, to a neighbour that does not exist. IP_PKTINFO (ip(7)) names the
// device that has the address instead. IPv6 does not let a bound socket do so.
func (s *Server) wayHome(key listenKey, peer netip.Addr) []byte {
	if key.way == shared {
		return nil // the host's own questions to it come by no gateway port
	}
	v := s.view.Load()
	if a := plain(peer); a != key.addr.Addr() && a.Is4() && v.clients[source{key.device, a}] == nil {
		if index := s.local.device(a); index != 0 {
			return unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: key.addr.Addr().As4()})
		}
	}
	return nil
}

// plain strips what does not belong to an address: the zone of a link-local
// one, which is the device that we know anyway.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
