package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"
)

// upstream is one server that queries are forwarded to.
type upstream struct {
	addr netip.AddrPort
	slow atomic.Int64 // when it last kept a query waiting, in Unix nanoseconds
}

// avoidFor is how long a server that did not answer is asked last. After it one
// query finds out, and is hedged like any other.
const avoidFor = 10 * time.Second

func (u *upstream) avoided(now time.Time) bool { return now.UnixNano()-u.slow.Load() < int64(avoidFor) }

func (u *upstream) failed() { u.slow.Store(time.Now().UnixNano()) }

func (u *upstream) answered() { u.slow.Store(0) }

// ask sends q until ctx ends, over UDP and, if the answer does not fit, over
// TCP. Every UDP query has a socket of its own: the kernel picks a random port
// for it and drops what others than the server send there.
func (u *upstream) ask(ctx context.Context, q *miekg.Msg) (*miekg.Msg, error) {
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack query: %w", err)
	}
	m, err := u.exchange(ctx, "udp", wire, q, readDatagram)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.addr, err)
	}
	if !m.Truncated {
		return m, nil
	}
	ctx, cancel := context.WithTimeout(ctx, overTCP)
	defer cancel()
	if whole, err := u.exchange(ctx, "tcp", framed(wire), q, readFrame); err == nil {
		return whole, nil
	}
	return m, nil // a firewall may let nothing but datagrams through: a part, and marked so
}

// overTCP is for the rest of an answer, and leaves time to hand on what came
// before.
const overTCP = 3 * tryFor / 4

// exchange writes wire and reads until an answer to q comes.
func (u *upstream) exchange(ctx context.Context, network string, wire []byte, q *miekg.Msg,
	read func(io.Reader) ([]byte, error)) (*miekg.Msg, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, u.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_, err = conn.Write(wire)
	for {
		var packet []byte
		if err == nil {
			packet, err = read(conn)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err() // it closed the connection
		}
		if err != nil {
			return nil, err
		}
		if m, err := match(packet, q); m != nil || err != nil {
			return m, err
		}
	}
}

// match returns the packet's message if it answers q. Anything else is passed
// over without an error: a late answer to an older socket's query, or a guess
// by somebody who forges its source.
func match(packet []byte, q *miekg.Msg) (*miekg.Msg, error) {
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet) != q.Id || packet[2]&0x80 == 0 {
		return nil, nil
	}
	m := new(miekg.Msg)
	if err := m.Unpack(packet); err != nil && !m.Truncated {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(m.Question) != 1 || !sameQuestion(m.Question[0], q.Question[0]) {
		return nil, nil
	}
	return m, nil
}

func sameQuestion(a, b miekg.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

func readDatagram(r io.Reader) ([]byte, error) {
	buf := make([]byte, 4096) // more than we asked for, in case the server does not care
	n, err := r.Read(buf)
	return buf[:n], err
}

// framed puts the length before a message, as TCP wants it (RFC 1035, section
// 4.2.2).
func framed(wire []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(wire)), uint16(len(wire))), wire...)
}

func readFrame(r io.Reader) ([]byte, error) { return readFrameInto(r, nil, maxTCP) }

// errLength is a TCP message that is shorter than a header or longer than
// wanted. What follows it cannot be told apart, so the connection is over.
var errLength = errors.New("bad message length")

// readFrameInto reads one message, into buf if it fits there.
func readFrameInto(r io.Reader, buf []byte, most int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < headerLen || n > most {
		return nil, errLength
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}
