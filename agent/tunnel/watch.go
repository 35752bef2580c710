package tunnel

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
)

// Tap sees the datagrams on the tunnel's port at this host's devices: what comes in
// before any packet filter has seen it, what goes out after every one has.
type Tap interface {
	// Receive returns a datagram's payload, or ctx's error when ctx ends.
	Receive(ctx context.Context, buf []byte) (n int, outgoing bool, err error)
	Close() error
}

// watchFor is how long a watch goes on after it was last asked for: longer than a
// volley lasts, since a tap costs something for each packet of the host.
const watchFor = 4 * time.Second

// watch looks at the devices while frames are missing, so that it can be said at which
// end they are. It has one goroutine.
type watch struct {
	self  discovery.HostID
	open  func() (Tap, error) // nil: this host cannot look
	log   *slog.Logger
	asked pace.Signal

	mu    sync.Mutex // guards what follows
	until time.Time
	sees  bool // a tap is open
	seen  []passed
}

// passed is a frame that passed a device.
type passed struct {
	frame
	outgoing bool
}

func newWatch(self discovery.HostID, open func() (Tap, error), log *slog.Logger) *watch {
	return &watch{self: self, open: open, log: log, asked: pace.NewSignal()}
}

// begin has the devices looked at for a while.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Now().Add(watchFor)
	w.asked.Set()
}

func (w *watch) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.asked:
		}
		if w.open == nil {
			continue
		}
		tap, err := w.open()
		if err != nil {
			w.log.Warn("cannot look at this host's devices: which end drops frames is not known", "err", err)
			continue
		}
		w.look(ctx, tap)
		_ = tap.Close()
	}
}

// look notes frames until nobody asks any more.
func (w *watch) look(ctx context.Context, tap Tap) {
	buf := make([]byte, vxlanSize+ethernetSize+frameSize)
	w.mu.Lock()
	w.sees = true
	w.mu.Unlock()
	for {
		left := w.left()
		if left <= 0 || ctx.Err() != nil {
			return
		}
		turn, cancel := context.WithTimeout(ctx, left)
		n, outgoing, err := tap.Receive(turn, buf)
		ended := turn.Err() != nil
		cancel()
		if f, ok := decapsulate(buf[:n]); err == nil && ok {
			w.note(passed{f, outgoing})
		}
		if err != nil && !ended {
			w.log.Warn("this host's devices cannot be looked at", "err", err)
			w.mu.Lock()
			w.sees, w.seen = false, nil
			w.mu.Unlock()
			return
		}
	}
}

// left is how long the watch goes on. When it is over, what was seen is forgotten.
func (w *watch) left() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := time.Until(w.until)
	if d <= 0 {
		w.sees, w.seen = false, nil
	}
	return d
}

// looks reports whether frames that pass the devices are seen.
func (w *watch) looks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sees
}

func (w *watch) note(p passed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) < mostNoted {
		w.seen = append(w.seen, p)
	}
}

// passed are the frames of a volley that passed a device.
func (w *watch) passed(outgoing bool, kind byte, sender discovery.HostID, first number) (s seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.seen {
		if p.outgoing == outgoing && p.kind == kind && p.sender == sender && p.number.volley() == first {
			s.add(p.number.index())
		}
	}
	return s
}
