package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/discovery/pace"
)

// dialTimeout bounds a connection to a member: one that needs longer is better
// asked again than waited for.
const dialTimeout = 3 * time.Second

// transport carries memberlist's packets and streams over one UDP and one TCP
// port of one address. Unlike memberlist's own it passes the kernel's errors
// on, and connects from the address it is bound to, which is the one that the
// other members' firewalls know.
type transport struct {
	addr    netip.AddrPort
	tcp     *net.TCPListener
	udp     *net.UDPConn
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends with Shutdown, and ends connection attempts
	stop    context.CancelFunc
	wg      sync.WaitGroup
	gate    gate

	arrived func(from netip.Addr, at time.Time) // is told of each datagram

	// cut drops what is exchanged with a peer, for tests; nil otherwise.
	cut func(network string, peer netip.Addr) bool
}

// receiveBuffer is asked of the kernel for the UDP socket: a state change of
// each of a thousand members fits in while we are not scheduled.
const receiveBuffer = 2 << 20

// listen binds both ports.
func listen(bind netip.AddrPort) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	addr := netip.AddrPortFrom(bind.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", errors.Join(err, tcp.Close()))
	}
	if err := udp.SetReadBuffer(receiveBuffer); err != nil {
		return nil, fmt.Errorf("gossip: receive buffer: %w", errors.Join(err, udp.Close(), tcp.Close()))
	}
	ctx, stop := context.WithCancel(context.Background())
	return &transport{addr: addr, tcp: tcp, udp: udp, ctx: ctx, stop: stop,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}, nil
}

// start begins to receive; until then the kernel keeps what comes.
func (t *transport) start() {
	t.wg.Go(t.accept)
	t.wg.Go(t.read)
}

func (t *transport) accept() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if t.pause() {
				continue
			}
			return
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		if t.isCut("tcp", from) {
			conn.Close()
			continue
		}
		within := t.gate.enter(conn, from.Addr().Unmap())
		if within == nil {
			continue
		}
		select {
		case t.streams <- within:
		case <-t.ctx.Done():
			within.Close()
			return
		}
	}
}

func (t *transport) read() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if t.pause() {
				continue
			}
			return
		}
		if n == 0 || t.isCut("udp", from) {
			continue
		}
		t.arrived(from.Addr().Unmap(), now)
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: now}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// pause waits a moment after a failed read or accept, such as for want of file
// descriptors; it reports false when the transport was shut down.
func (t *transport) pause() bool {
	return pace.Sleep(t.ctx, 10*time.Millisecond)
}

func (t *transport) isCut(network string, peer netip.AddrPort) bool {
	return t.cut != nil && t.cut(network, peer.Addr().Unmap())
}

// FinalAdvertiseAddr implements memberlist.Transport: what is bound is what is
// advertised.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	if t.isCut("udp", to) {
		return time.Now(), nil
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	if t.isCut("tcp", to) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: errCut}
	}
	d := net.Dialer{Timeout: min(timeout, dialTimeout), LocalAddr: &net.TCPAddr{IP: t.addr.Addr().AsSlice(), Zone: t.addr.Addr().Zone()}}
	return d.DialContext(t.ctx, "tcp", addr)
}

var errCut = errors.New("the link is cut")

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport. It returns when both sockets are
// closed and nothing reads them.
func (t *transport) Shutdown() error {
	if t.ctx.Err() != nil {
		return nil
	}
	t.stop()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.wg.Wait()
	return err
}
