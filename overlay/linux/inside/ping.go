package inside

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

const (
	echoEvery = 200 * time.Millisecond
	echoWait  = time.Second // for the answer to the last one
	stamp     = 16          // bytes at the start of the data that tell our echoes from others
)

// Ping sends echoes from within the namespace at path, empty for the host's, and returns
// what became of each. An answer counts until the last one has been waited for.
func Ping(ctx context.Context, path string, e overlay.Echoes) (all []overlay.Echo, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	fd, err := socket(ns, overlay.Crossing{Src: e.Src, Dst: e.Dst, Proto: "icmp"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := fragmenting(fd, e); err != nil {
		return nil, err
	}
	p := pinger{Echoes: e, fd: fd, sent: make([]time.Time, 0, e.Count), all: make([]overlay.Echo, 0, e.Count), id: uint16(os.Getpid())}
	_, _ = rand.Read(p.mark[:])
	if err := unix.Connect(fd, sockaddr(e.Dst, 0)); err != nil {
		v, err := verdict(err)
		for range e.Count {
			p.all = append(p.all, overlay.Echo{Trial: v})
		}
		return p.all, err
	}
	return p.all, p.run(ctx)
}

// fragmenting says whether the kernel, and routers, may cut packets (ip(7)).
func fragmenting(fd int, e overlay.Echoes) error {
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	if e.Dst.Is6() {
		level, option, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT
	}
	if e.Whole { // the same number in both families
		value = unix.IP_PMTUDISC_PROBE
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
}

// pinger is one Ping that is under way.
type pinger struct {
	overlay.Echoes
	fd   int
	id   uint16
	mark [stamp]byte
	sent []time.Time
	all  []overlay.Echo
	open int // that were not answered yet
}

func (p *pinger) run(ctx context.Context) error {
	began := time.Now()
	for {
		now := time.Now()
		next := began.Add(time.Duration(len(p.sent)) * echoEvery)
		switch {
		case ctx.Err() != nil:
			return nil
		case len(p.sent) < p.Count && !now.Before(next):
			if err := p.send(); err != nil {
				return err
			}
			continue
		case len(p.sent) == p.Count && (p.open == 0 || now.Sub(p.sent[p.Count-1]) > echoWait):
			return nil
		}
		poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 10)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			if err := p.receive(); err != nil {
				return err
			}
		}
	}
}

// send sends the next one. What the kernel refuses is known at once.
func (p *pinger) send() error {
	data := make([]byte, max(p.Size, 0))
	copy(data, p.mark[:])
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(p.id), Seq: len(p.sent) + 1, Data: data}}
	if p.Dst.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	packet, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	p.sent = append(p.sent, time.Now())
	p.all = append(p.all, overlay.Echo{Trial: overlay.TrialSilent})
	p.open++
	if err := unix.Send(p.fd, packet, 0); err != nil {
		return p.failed(len(p.all)-1, err)
	}
	return nil
}

// failed notes what an error says of an echo.
func (p *pinger) failed(i int, err error) error {
	v, err := verdict(err)
	if err == nil && p.all[i].Trial == overlay.TrialSilent {
		p.all[i].Trial = v
		p.open--
	}
	return err
}

// receive takes what came; an error of a router is about the last one that was sent.
func (p *pinger) receive() error {
	var buf [65536]byte
	n, _, err := unix.Recvfrom(p.fd, buf[:], 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return p.failed(len(p.all)-1, err)
	}
	if i := p.answered(buf[:n]); i >= 0 && p.all[i].Trial != overlay.TrialAnswered {
		if p.all[i].Trial == overlay.TrialSilent {
			p.open--
		}
		p.all[i] = overlay.Echo{Trial: overlay.TrialAnswered, Took: time.Since(p.sent[i])}
	}
	return nil
}

// answered is the number of the echo that a packet answers, -1 for any other packet.
func (p *pinger) answered(b []byte) int {
	want := byte(ipv6.ICMPTypeEchoReply)
	if p.Dst.Is4() { // behind the IPv4 header
		if want = byte(ipv4.ICMPTypeEchoReply); len(b) < 20 || len(b) < int(b[0]&0xf)*4 {
			return -1
		}
		b = b[int(b[0]&0xf)*4:]
	}
	if len(b) < 8+p.Size || b[0] != want || binary.BigEndian.Uint16(b[4:]) != p.id {
		return -1
	}
	seq := int(binary.BigEndian.Uint16(b[6:]))
	same := min(stamp, p.Size)
	if seq < 1 || seq > len(p.sent) || string(b[8:8+same]) != string(p.mark[:same]) {
		return -1
	}
	return seq - 1
}
