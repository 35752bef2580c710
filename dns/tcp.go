package dns

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// tcpIdle is how long the next whole query may take to come, however its
	// bytes are spread.
	tcpIdle = 10 * time.Second
	// tcpWrite is how long a client may take to read one reply.
	tcpWrite = 5 * time.Second
	// tcpLinger is how long a client is listened to after the last reply: it may be
	// sending still, and a socket that is closed with bytes unread resets the
	// connection, which takes the replies on their way with it.
	tcpLinger = 2 * time.Second
	// tcpUpstream is how many queries of one connection may wait for an upstream.
	tcpUpstream = 16
	// tcpPerSource and tcpTotal bound the open connections.
	tcpPerSource = 32
	tcpTotal     = 1024
)

// acceptPause is waited after an accept that failed for want of descriptors:
// trying at once would only burn a core.
const acceptPause = 100 * time.Millisecond

func (s *Server) serveTCP(ctx context.Context, sock net.Listener, key listenKey) {
	for {
		conn, err := sock.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case err != nil:
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		default:
			s.takeConn(ctx, conn, key)
		}
	}
}

// takeConn serves conn beside the others, or closes it when there are too many:
// a client that holds connections open is in its own way only.
func (s *Server) takeConn(ctx context.Context, conn net.Conn, key listenKey) {
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	from := source{key.device, plain(peer.Addr())}
	if key.way == shared {
		from.device = s.view.Load().deviceOf[from.addr]
	}
	if !s.conns.take(from) {
		s.stats.connsOver.Add(1)
		conn.Close()
		return
	}
	s.stats.conns.Add(1)
	s.tasks.Go(func() {
		defer s.conns.give(from)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		s.serveConn(conn, from, key)
	})
}

// serveConn answers the queries of one connection, as many as come, in the order that
// their answers are known (RFC 7766, section 6.2.1.1). One after the other is read, so
// a client that asks much is in its own way only.
func (s *Server) serveConn(conn net.Conn, from source, key listenKey) {
	c := &tcpConn{conn: conn, slots: make(chan struct{}, tcpUpstream)}
	defer c.end()
	in, buf := bufio.NewReader(conn), make([]byte, plainUDP)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(tcpIdle)) // fails on a closed connection, as the read does
		packet, err := readFrameInto(in, buf, maxQuery)
		if err != nil {
			return
		}
		reply, upstream := s.handle(packet, from, key, nil)
		if upstream != nil {
			reply = s.fetchTCP(c, from, upstream)
		}
		if reply != nil && c.write(reply) != nil {
			return
		}
	}
}

// end closes the connection once all replies are written, so that they arrive.
func (c *tcpConn) end() {
	defer c.conn.Close()
	c.upstream.Wait() // a client that only closes its own half still reads
	half, ok := c.conn.(*net.TCPConn)
	if !ok || half.CloseWrite() != nil {
		return // closed already, by a write that failed or by the end of the server
	}
	_ = half.SetReadDeadline(time.Now().Add(tcpLinger))
	_, _ = io.Copy(io.Discard, half)
}

// fetchTCP sends q upstream, to be replied to later; only if that is refused
// there is a reply at once.
func (s *Server) fetchTCP(c *tcpConn, from source, q *errand) []byte {
	c.slots <- struct{}{} // a client with enough queries waiting waits itself
	c.upstream.Add(1)
	took := s.later(from, func() {
		defer c.upstream.Done()
		defer func() { <-c.slots }()
		_ = c.write(s.fetch(s.ctx, q))
	})
	if took {
		return nil
	}
	c.upstream.Done()
	<-c.slots
	return s.overloaded(q, nil)
}

// tcpConn is one connection: replies are written whole, one after the other.
type tcpConn struct {
	conn     net.Conn
	upstream sync.WaitGroup
	slots    chan struct{}

	mu sync.Mutex // guards writing
}

func (c *tcpConn) write(reply []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(tcpWrite)) // fails on a closed connection, as the write does
	_, err := c.conn.Write(framed(reply))
	if err != nil {
		c.conn.Close() // part of a reply may be on its way: nothing can follow it
	}
	return err
}
