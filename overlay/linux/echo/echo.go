// Package echo makes network namespaces that nothing outlives, puts echo servers into
// namespaces, and speaks to echo servers from there. Each server says its name before it
// echoes, so that who answered is known.
package echo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// patience bounds one conversation of a server: nobody may hold it open.
const patience = 20 * time.Second

// mostAtOnce is how many conversations a server has at a time.
const mostAtOnce = 64

// Make makes a namespace that ends when room is closed, or with this process, and returns
// a path by which it is opened until then.
func Make() (path string, room io.Closer, err error) {
	ns, err := netns.Unnamed(func() error { return nil })
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()), ns, nil
}

// Serve opens an echo server on TCP and UDP in the namespace at path. Its name has no
// line feed.
func Serve(path string, at netip.AddrPort, name string) (io.Closer, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	s := &server{hello: []byte(name + "\n"), room: make(chan struct{}, mostAtOnce)}
	err = netns.Within(ns, func() (err error) {
		if s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
			return err
		}
		s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return errors.Join(err, s.tcp.Close())
		}
		return nil
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		return nil, err
	}
	s.all.Go(s.accept)
	s.all.Go(s.answer)
	return s, nil
}

// server is one echo server.
type server struct {
	hello []byte
	tcp   *net.TCPListener
	udp   *net.UDPConn
	room  chan struct{}
	all   sync.WaitGroup // of what accepts and answers
}

// Close ends it; conversations that are under way end by themselves.
func (s *server) Close() error {
	err := errors.Join(s.tcp.Close(), s.udp.Close())
	s.all.Wait()
	return err
}

func (s *server) accept() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // such as too many open files
			continue
		}
		select {
		case s.room <- struct{}{}:
			go func() {
				defer func() { <-s.room }()
				s.converse(c)
			}()
		default:
			_ = c.Close()
		}
	}
}

// converse says the name, and then whatever it hears.
func (s *server) converse(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(s.hello); err == nil {
		_, _ = io.Copy(c, c)
	}
}

func (s *server) answer() {
	buf := make([]byte, 65536)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // an error is that of an answer before
			_, _ = s.udp.WriteToUDPAddrPort(append(bytes.Clone(s.hello), buf[:n]...), from)
		}
	}
}

// Speak says something to an echo server from within the namespace at path, empty for
// the host's, and returns the server's name once all of it came back.
func Speak(ctx context.Context, path string, s overlay.Speech) (who string, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	var c net.Conn
	if err := netns.Within(ns, func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, s.Proto, s.Dst.String())
		return err
	}); err != nil {
		return "", plain(err)
	}
	defer func() { _ = c.Close() }()
	if late, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(late)
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	who, back, err := converse(c, s.Proto, speech(s.Size))
	if err != nil {
		return who, plain(err)
	}
	if !bytes.Equal(back, speech(s.Size)) {
		return who, fmt.Errorf("%d bytes were sent, and %d others came back", s.Size, len(back))
	}
	return who, nil
}

// speech is bytes that differ from their neighbours.
func speech(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// converse returns the server's name and what it echoed.
func converse(c net.Conn, proto string, say []byte) (who string, back []byte, err error) {
	if proto == "udp" {
		if _, err := c.Write(say); err != nil {
			return "", nil, err
		}
		buf := make([]byte, 65536)
		n, err := c.Read(buf)
		if err != nil {
			return "", nil, err
		}
		name, rest, _ := bytes.Cut(buf[:n], []byte("\n"))
		return string(name), rest, nil
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(say)
		if t, ok := c.(*net.TCPConn); ok && err == nil {
			err = t.CloseWrite()
		}
		sent <- err
	}()
	r := bufio.NewReader(c)
	name, err := r.ReadString('\n')
	if err == nil {
		back, err = io.ReadAll(io.LimitReader(r, int64(len(say))+1))
	}
	if err != nil {
		_ = c.Close()
		<-sent
		return strings.TrimSuffix(name, "\n"), back, err
	}
	return strings.TrimSuffix(name, "\n"), back, <-sent
}

// plain is an error as people say it, without addresses that are known already.
func plain(err error) error {
	timeout := false
	if e, ok := errors.AsType[net.Error](err); ok {
		timeout = e.Timeout()
	}
	switch {
	case timeout, errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer")
	case errors.Is(err, unix.ECONNREFUSED):
		return errors.New("refused")
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err
	}
	return err
}

// Resolve asks a DNS server from within the namespace: for the addresses of a name, or
// with reverse for the names of an address. No answer but that there is none is an
// empty list.
func Resolve(ctx context.Context, path string, server netip.AddrPort, name string, reverse bool) (values []string, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, proto, _ string) (c net.Conn, err error) {
		err = netns.Within(ns, func() (err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, proto, server.String())
			return err
		})
		return c, err
	}}
	if reverse {
		values, err = r.LookupAddr(ctx, name)
	} else {
		var all []netip.Addr
		all, err = r.LookupNetIP(ctx, "ip4", strings.TrimSuffix(name, ".")+".")
		for _, a := range all {
			values = append(values, a.Unmap().String())
		}
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case e.IsNotFound:
			return nil, nil
		case e.IsTimeout:
			return nil, errors.New("the DNS server does not answer")
		}
		return nil, errors.New(e.Err)
	}
	return values, err
}
