package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// conn is an rtnetlink socket. It belongs to the namespace of the thread that
// opened it, whichever thread uses it later.
type conn struct {
	mu  sync.Mutex // one request at a time
	fd  int
	seq uint32
	buf []byte
}

const (
	// A dump fills at most 32 kB of a reply, a batch of errors many small ones.
	receiveBuffer = 64 << 10
	// Errors of a whole batch must fit before they are read.
	socketBuffer = 8 << 20
	// A reply that was lost must not block for ever.
	receiveTimeout = 15 // seconds; the watchdog waits for 30
)

// dial opens a socket in the namespace of the calling thread.
func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// The kernel's own words for an error, no echo of what failed, and a check
	// of dump filters. An old kernel without them answers all the same.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: receiveTimeout})
	return &conn{fd: fd, buf: make([]byte, receiveBuffer)}, nil
}

// close waits for a request under way. A later one fails, and does not reach what
// has the number of the socket by then.
func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

// kernelError is an errno and, if the kernel had one, its sentence.
type kernelError struct {
	errno unix.Errno
	text  string
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.text + ": " + e.errno.Error()
}

func (e *kernelError) Unwrap() error { return e.errno }

// do sends the messages in e and returns the error of each, nil when all went
// well. Only the last of a batch asks for an answer; the kernel answers to a
// failed one unasked.
func (c *conn) do(e *encoder) ([]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, n, err := c.send(e.b, unix.NLM_F_ACK)
	if err != nil {
		return nil, err
	}
	last := first + uint32(n) - 1
	var failed []error
	for done := false; !done; {
		err := c.receive(func(h header, body []byte) {
			if h.typ != unix.NLMSG_ERROR || h.seq-first >= uint32(n) {
				return
			}
			if err := parseError(h, body); err != nil {
				if failed == nil {
					failed = make([]error, n)
				}
				failed[h.seq-first] = err
			}
			done = done || h.seq == last
		})
		if err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// one sends a single message.
func (c *conn) one(e *encoder) error {
	failed, err := c.do(e)
	if err != nil {
		return err
	}
	return errors.Join(failed...)
}

// get sends one request and hands over the answer, which is valid during the
// call only.
func (c *conn) get(e *encoder, answer func(body []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq, _, err := c.send(e.b, 0)
	if err != nil {
		return err
	}
	var result error
	for done := false; !done; {
		err := c.receive(func(h header, body []byte) {
			if h.seq != seq || done {
				return
			}
			done = true
			if h.typ == unix.NLMSG_ERROR {
				result = parseError(h, body)
				return
			}
			answer(body)
		})
		if err != nil {
			return err
		}
	}
	return result
}

// dumpAttempts bounds the retries of a dump during which the table changed: the
// kernel then marks it as possibly incomplete.
const dumpAttempts = 30

// dump asks for a whole table and parses each message; parse may drop one. It
// starts again when the kernel says that the table changed meanwhile.
func dump[T any](c *conn, e *encoder, parse func(body []byte) (T, bool)) ([]T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []T
	for range dumpAttempts {
		all = all[:0]
		interrupted, err := c.dumpOnce(e, func(body []byte) {
			if v, ok := parse(body); ok {
				all = append(all, v)
			}
		})
		if err != nil {
			return nil, err
		}
		if !interrupted {
			return all, nil
		}
	}
	return nil, fmt.Errorf("dump interrupted %d times: %w", dumpAttempts, unix.EINTR)
}

func (c *conn) dumpOnce(e *encoder, each func(body []byte)) (interrupted bool, err error) {
	seq, _, err := c.send(e.b, unix.NLM_F_DUMP)
	if err != nil {
		return false, err
	}
	var result error
	for done := false; !done; {
		err := c.receive(func(h header, body []byte) {
			if h.seq != seq {
				return
			}
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch h.typ {
			case unix.NLMSG_DONE:
				done = true
				result = parseError(h, body)
			case unix.NLMSG_ERROR:
				done = true
				result = parseError(h, body)
			default:
				each(body)
			}
		})
		if err != nil {
			return false, err
		}
	}
	if errors.Is(result, unix.EINTR) {
		return true, nil
	}
	return interrupted, result
}

// send numbers the messages in b, adds flags to the last and sends them.
func (c *conn) send(b []byte, flags uint16) (first uint32, n int, err error) {
	first = c.seq + 1
	for at := 0; at < len(b); {
		c.seq++
		n++
		binary.NativeEndian.PutUint32(b[at+8:], c.seq)
		size := align(int(binary.NativeEndian.Uint32(b[at:])))
		if at+size >= len(b) {
			old := binary.NativeEndian.Uint16(b[at+6:])
			binary.NativeEndian.PutUint16(b[at+6:], old|flags)
		}
		at += size
	}
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	return first, n, os.NewSyscallError("sendto", retry(func() error { return unix.Sendto(c.fd, b, 0, to) }))
}

type header struct {
	typ, flags uint16
	seq        uint32
}

// receive reads one datagram and hands over its messages.
func (c *conn) receive(each func(header, []byte)) error {
	var n int
	err := retry(func() (err error) {
		n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		return err
	})
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	messages(c.buf[:n], each)
	return nil
}

// messages walks the messages of a datagram.
func messages(b []byte, each func(header, []byte)) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return
		}
		each(header{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
		}, b[unix.SizeofNlMsghdr:size])
		b = b[min(align(size), len(b)):]
	}
}

// parseError reads a struct nlmsgerr, or the error code of an NLMSG_DONE.
func parseError(h header, body []byte) error {
	code := int32(asU32(body))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	const capped = 0x100 // NLM_F_CAPPED: the failed request is not repeated
	at := 4
	if h.typ == unix.NLMSG_ERROR {
		at += unix.SizeofNlMsghdr
		if h.flags&capped == 0 && len(body) >= 8 {
			at = 4 + align(int(asU32(body[4:])))
		}
	}
	if at < len(body) {
		for typ, data := range attributes(body[at:]) {
			if typ == 1 { // NLMSGERR_ATTR_MSG
				e.text = asString(data)
			}
		}
	}
	return e
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
