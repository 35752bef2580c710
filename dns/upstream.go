package dns

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

// upstream is one server that queries are forwarded to.
type upstream struct {
	addr netip.AddrPort
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu sync.Mutex // guards what follows
	// The run of queries that it left without any answer, up to now.
	lost     int       // how many
	since    time.Time // when the first of them was sent
	lastLost time.Time // when the last of them was given up
	heard    time.Time // when it last sent anything
	err      error     // why it does not answer now; nil when it does
	refuses  error     // that it refuses even what every resolver can answer
	doubt    bool      // it refused something, which may be the question's fault
	late     int       // queries that wait for its answer, though they are over
	asked    time.Time // when it was last asked; before that, when it became known
	probed   time.Time // when it was last asked beside others, to see whether it is back
	// Since the start, of all questions.
	answers, errors uint64
	took            time.Duration
}

const (
	// tries and silentFor are how many queries in a row, and for how long, a server
	// has to leave without an answer before others are asked first. One that is
	// slow, loses a datagram or answers one question badly keeps its place: it may
	// be the only one that knows a name.
	tries     = 3
	silentFor = tries * tryFor
	// avoidFor is how long a silent server is asked last without being asked again.
	avoidFor = 10 * time.Second
	// probeEvery is how often it is asked beside the others meanwhile.
	probeEvery = time.Second
	// checkEvery is how often a server that is of no use is asked while nobody else
	// asks it anything.
	checkEvery = 4 * time.Second
)

// avoided reports whether the server was silent again and again, and lately.
func (u *upstream) avoided(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost >= tries && u.lastLost.Sub(u.since) >= silentFor && now.Sub(u.lastLost) < avoidFor
}

// doubtful reports whether the server left its last query without an answer.
func (u *upstream) doubtful() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost > 0
}

// probe reports whether it is time to see if an avoided server is back, at most
// once in probeEvery.
func (u *upstream) probe(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.probed) < probeEvery {
		return false
	}
	u.probed = now
	return true
}

// answered notes a reply: the server is there, and if it is no refusal of use.
func (u *upstream) answered(refused bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.heard, u.lost, u.err, u.doubt = time.Now(), 0, nil, refused
	if !refused {
		u.refuses = nil
	}
}

// silent notes that a query sent at that time was not answered.
func (u *upstream) silent(sent time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if sent.Before(u.heard) {
		return // it answered another one since: a datagram was lost
	}
	if u.lost == 0 {
		u.since = sent
	}
	u.lost++
	u.lastLost = time.Now()
	if u.lost > 1 { // one datagram may be lost
		u.err = errSilent
	}
}

// failed notes an error that is not silence, such as a port that is closed.
func (u *upstream) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

// refused notes that the server refuses what every resolver can answer.
func (u *upstream) refused(rcode int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refuses, u.doubt = fmt.Errorf("answers %s", miekg.RcodeToString[rcode]), false
}

var errSilent = errors.New("no answer")

// due reports whether nothing is known of the server since checkEvery, or nothing good:
// then it is time to ask it something, at most once in that time.
func (u *upstream) due(now time.Time, named bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	doubt := u.doubt || u.lost > 0 || u.err != nil || u.refuses != nil || named && u.heard.IsZero()
	return doubt && now.Sub(u.asked) >= checkEvery
}

// trouble is why the server is of no use now, nil as far as it is known to be.
func (u *upstream) trouble() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return cmp.Or(u.err, u.refuses)
}

// counted counts a question that is over.
func (u *upstream) counted(took time.Duration, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.errors++
		return
	}
	u.answers++
	u.took += took
}

// state is the server as others see it.
func (u *upstream) state() Upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	return Upstream{Addr: u.addr, Err: cmp.Or(u.err, u.refuses), Answers: u.answers, Took: u.took, Errors: u.errors}
}

func (u *upstream) wasAsked(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = now
}

// ask sends q until the server answers, again every tryFor, and tells lost of each
// time that it did not. When done is closed the query is over for the asker: this
// one is still waited for a while, to know whether the server is slow or silent. ctx ends
// it at once.
func (u *upstream) ask(ctx context.Context, done <-chan struct{}, q *miekg.Msg, lost func()) (*message, error) {
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack query: %w", err)
	}
	began := time.Now()
	u.wasAsked(began)
	m, err := u.overUDP(ctx, done, q, wire, lost)
	if ctx.Err() == nil { // else another was faster
		u.counted(time.Since(began), err)
	}
	switch {
	case err == nil:
		u.answered(m.verdict(q.Question[0].Qtype) == refusal)
		return m, nil
	case !errors.Is(err, errSilent) && ctx.Err() == nil:
		u.failed(err)
	}
	return nil, fmt.Errorf("ask %s: %w", u.addr, err)
}

// overUDP has a socket of its own for the query: the kernel picks a random port for
// it and drops what others than the server send there.
func (u *upstream) overUDP(ctx context.Context, done <-chan struct{}, q *miekg.Msg, wire []byte, lost func()) (*message, error) {
	conn, err := u.dial(ctx, "udp", u.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	began := time.Now()
	for malformed := 0; ; {
		sent := time.Now()
		m, err := u.try(conn, q, wire, sent)
		if err == nil && m.truncated() || errors.Is(err, errMalformed) {
			m, err = u.overTCP(ctx, q, wire, m)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			u.silent(sent)
			lost()
		case errors.Is(err, errMalformed) && malformed == 0:
			malformed++ // as any datagram may be
			u.answered(false)
		default:
			return m, err
		}
		select {
		case <-done:
			if errors.Is(err, errMalformed) {
				return nil, err
			}
			return u.linger(conn, q, began.Add(silentFor))
		default:
		}
	}
}

// linger waits for a late answer to a query that is over: it tells a server that is
// slow from one that is silent. A few at a time tell as much as many.
func (u *upstream) linger(conn net.Conn, q *miekg.Msg, until time.Time) (*message, error) {
	u.mu.Lock()
	u.late++
	few := u.late <= maxLate
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.late--
		u.mu.Unlock()
	}()
	if !few {
		return nil, errSilent
	}
	if err := conn.SetDeadline(until); err != nil {
		return nil, err
	}
	m, err := receive(conn, q, readDatagram)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errSilent
	}
	return m, err
}

// maxLate is how many queries at a time linger.
const maxLate = 50

// try sends wire once and waits tryFor.
func (u *upstream) try(conn net.Conn, q *miekg.Msg, wire []byte, sent time.Time) (*message, error) {
	if err := conn.SetDeadline(sent.Add(tryFor)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	return receive(conn, q, readDatagram)
}

// tcpFor is for the rest of an answer, and leaves time to hand on what came
// before.
const tcpFor = 3 * tryFor / 4

// overTCP asks for the whole of what came in part, or cannot be read. A firewall
// may let nothing but datagrams through: then part is better than nothing, and is
// marked as what it is.
func (u *upstream) overTCP(ctx context.Context, q *miekg.Msg, wire []byte, part *message) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpFor)
	defer cancel()
	m, err := u.connect(ctx, q, wire)
	switch {
	case err == nil && !m.cut:
		return m, nil
	case part != nil && (!part.cut || part.counts[answerSection] > 0):
		return part, nil
	}
	return nil, errMalformed
}

func (u *upstream) connect(ctx context.Context, q *miekg.Msg, wire []byte) (*message, error) {
	conn, err := u.dial(ctx, "tcp", u.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(framed(wire)); err != nil {
		return nil, err
	}
	return receive(conn, q, readFrame)
}

// receive reads until an answer to q comes.
func receive(conn net.Conn, q *miekg.Msg, read func(io.Reader) ([]byte, error)) (*message, error) {
	for {
		packet, err := read(conn)
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
// by somebody who forges its source. A reply without a question, as some servers
// refuse with, has the id to show, and address and port.
func match(packet []byte, q *miekg.Msg) (*message, error) {
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet) != q.Id || packet[2]&0x80 == 0 {
		return nil, nil
	}
	m, err := cutUp(packet)
	if err != nil {
		return nil, err
	}
	switch m.questions() {
	case 0:
		if m.cut {
			return nil, errMalformed
		}
		return asked(packet, q)
	case 1:
		name, end, err := miekg.UnpackDomainName(packet, headerLen)
		if err != nil {
			return nil, errMalformed
		}
		got := miekg.Question{Name: name, Qtype: binary.BigEndian.Uint16(packet[end:]), Qclass: binary.BigEndian.Uint16(packet[end+2:])}
		if end+4 == m.body && sameQuestion(got, q.Question[0]) {
			return m, nil
		}
	}
	return nil, nil
}

// asked puts q's question into a reply that has none.
func asked(packet []byte, q *miekg.Msg) (*message, error) {
	anew := new(miekg.Msg)
	if anew.Unpack(packet) != nil {
		return nil, errMalformed
	}
	anew.Question = q.Question
	wire, err := anew.Pack()
	if err != nil {
		return nil, errMalformed
	}
	return cutUp(wire)
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
