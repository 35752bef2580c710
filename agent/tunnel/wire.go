package tunnel

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/overlay"
)

// again is the pause between two tries to open the socket: the next pass may make the
// device.
const again = 50 * time.Millisecond

// mostNoted is how many requests of others are remembered: those of three minutes, if
// each of fifty members proves as it should.
const mostNoted = 1024

// Socket is one in the probe network of this host (discovery.ProbeVNI).
type Socket interface {
	Send(to overlay.MAC, payload []byte) error
	// Receive returns ctx's error when ctx ends. What is longer than buf is cut off.
	Receive(ctx context.Context, buf []byte) (n int, from overlay.MAC, err error)
	Close() error
}

// wire sends requests, receives replies, and answers the requests of others.
type wire struct {
	self discovery.HostID
	open func() (Socket, error)

	mu      sync.Mutex // guards what follows
	socket  Socket     // nil: the device is not there
	waiting map[number]*volley
	noted   []noted // the last requests of others that came
}

// noted is a request that came from another member.
type noted struct {
	sender discovery.HostID
	number number
}

func newWire(self discovery.HostID, open func() (Socket, error)) *wire {
	return &wire{self: self, open: open, waiting: map[number]*volley{}}
}

// run receives until ctx ends.
func (w *wire) run(ctx context.Context) error {
	for ctx.Err() == nil {
		socket, err := w.open()
		if err == nil {
			w.use(socket)
			err = w.receive(ctx, socket)
			w.use(nil)
			_ = socket.Close()
		}
		if err != nil {
			pace.Sleep(ctx, again)
		}
	}
	return nil
}

func (w *wire) use(s Socket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.socket = s
}

func (w *wire) receive(ctx context.Context, socket Socket) error {
	buf := make([]byte, frameSize)
	for {
		n, from, err := socket.Receive(ctx, buf)
		if err != nil {
			return err
		}
		f, ok := decodeFrom(buf[:n], from)
		switch {
		case !ok:
		case f.kind == requestKind:
			w.note(noted{f.sender, f.number})
			// A reply that is lost is asked for again.
			_ = socket.Send(from, frame{replyKind, f.number, w.self}.encode(0))
		default:
			w.answered(f)
		}
	}
}

func (w *wire) note(n noted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noted = append(w.noted, n); len(w.noted) > mostNoted {
		w.noted = slices.Clone(w.noted[mostNoted/2:])
	}
}

// came are the requests of another member's volley that reached this host.
func (w *wire) came(sender discovery.HostID, first number) (s seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.noted {
		if n.sender == sender && n.number.volley() == first {
			s.add(n.number.index())
		}
	}
	return s
}

// answerOlder answers the question of a release before standing proofs: whether one
// request came.
func (w *wire) answerOlder(body []byte) []byte {
	number := asked(body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.noted, func(n noted) bool { return n.number == number }) {
		return []byte{1}
	}
	return []byte{0}
}

// mostSent is how many requests a volley can number.
const mostSent = 256

// volley is a few requests to one member and their replies. It belongs to one
// goroutine, but for what wire guards.
type volley struct {
	wire  *wire
	to    discovery.HostID
	first number
	reply pace.Signal // one came

	sent []time.Time     // guarded by wire, as what follows
	size []int           // of each request, in bytes
	rtt  []time.Duration // of each request; zero: it is not answered
}

// begin returns a volley whose replies are taken until end.
func (w *wire) begin(to discovery.HostID) *volley {
	v := &volley{wire: w, to: to, first: firstNumber(), reply: pace.NewSignal()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[v.first] = v
	return v
}

func (v *volley) end() {
	v.wire.mu.Lock()
	defer v.wire.mu.Unlock()
	delete(v.wire.waiting, v.first)
}

// fire sends one more request, of at least that many bytes. A frame that the kernel
// refuses counts as sent: it did not get there.
func (v *volley) fire(size int) {
	w := v.wire
	w.mu.Lock()
	socket, n := w.socket, v.first|number(len(v.sent)%mostSent)
	v.sent, v.size, v.rtt = append(v.sent, time.Now()), append(v.size, max(size, frameSize)), append(v.rtt, 0)
	w.mu.Unlock()
	if socket != nil {
		_ = socket.Send(plan.ProbeMAC(v.to), frame{requestKind, n, w.self}.encode(size))
	}
}

// answered takes the reply to a request that was sent.
func (w *wire) answered(f frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.waiting[f.number.volley()]
	i := f.number.index()
	if !ok || v.to != f.sender || i >= len(v.sent) || v.rtt[i] != 0 {
		return
	}
	v.rtt[i] = max(time.Since(v.sent[i]), 1)
	v.reply.Set()
}

// trips are the round trips of the requests so far; zero: not answered.
func (v *volley) trips() []time.Duration {
	v.wire.mu.Lock()
	defer v.wire.mu.Unlock()
	return slices.Clone(v.rtt)
}

// largest is the size of the largest request that was answered, in bytes; 0: none was.
func (v *volley) largest() (size int) {
	v.wire.mu.Lock()
	defer v.wire.mu.Unlock()
	for i, d := range v.rtt {
		if d > 0 {
			size = max(size, v.size[i])
		}
	}
	return size
}

// await waits for d at most, until done.
func (v *volley) await(ctx context.Context, d time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for !done() {
		select {
		case <-v.reply:
		case <-ctx.Done():
			return done()
		}
	}
	return true
}

// some reports whether a request was answered.
func (v *volley) some() bool { return v.largest() > 0 }

// every reports whether all were.
func (v *volley) every() bool { return !slices.Contains(v.trips(), 0) }
