// Package tunneltest joins probe sockets in memory. It stands in for the probe
// network.
package tunneltest

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/weft-net/weft/overlay"
)

// Place is where a frame is on its way.
type Place int

// The places, in the order in which a frame passes them.
const (
	Leaving Place = iota
	Between
	Arriving
)

// Wire carries frames between the sockets that were added.
type Wire struct {
	mu      sync.Mutex
	sockets map[overlay.MAC]chan frame
	taps    map[overlay.MAC][]*Tap
	lose    func(from, to overlay.MAC, at Place, payload []byte) bool // nil: nothing
	frames  map[overlay.MAC]int
	bytes   map[overlay.MAC]int
}

type frame struct {
	from    overlay.MAC
	payload []byte
}

// NewWire returns one without sockets, which loses nothing.
func NewWire() *Wire {
	return &Wire{sockets: map[overlay.MAC]chan frame{}, taps: map[overlay.MAC][]*Tap{}, frames: map[overlay.MAC]int{}, bytes: map[overlay.MAC]int{}}
}

// Add makes a place for the socket of an address.
func (w *Wire) Add(a overlay.MAC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sockets[a] = make(chan frame, 1000)
}

// Lose has frames lost of which it says so, from now on. It is asked at each place.
func (w *Wire) Lose(lose func(from, to overlay.MAC, at Place, payload []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = lose
}

// Sent is how many frames an address sent, and how many bytes they had.
func (w *Wire) Sent(a overlay.MAC) (frames, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frames[a], w.bytes[a]
}

// Open returns the socket of an address.
func (w *Wire) Open(a overlay.MAC) *Socket { return &Socket{w, a} }

// carry takes a frame along its way and returns where it ends; nil: it is lost. The
// taps see it where they are.
func (w *Wire) carry(from, to overlay.MAC, payload []byte) chan frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frames[from]++
	w.bytes[from] += len(payload)
	for at := Leaving; at <= Arriving; at++ {
		if w.lose != nil && w.lose(from, to, at, payload) {
			return nil
		}
		switch at {
		case Leaving:
			w.show(from, true, from, to, payload)
		case Between:
			w.show(to, false, from, to, payload)
		}
	}
	return w.sockets[to]
}

// show has the taps of an address see a frame, encapsulated.
func (w *Wire) show(at overlay.MAC, outgoing bool, from, to overlay.MAC, payload []byte) {
	for _, t := range w.taps[at] {
		b := binary.BigEndian.AppendUint64(nil, 0x08000000<<32|1<<8) // RFC 7348, section 5
		b = append(append(append(b, to[:]...), from[:]...), 0x88, 0xb5)
		select {
		case t.seen <- tapped{append(b, payload...), outgoing}:
		default:
		}
	}
}

// Socket is a tunnel.Socket.
type Socket struct {
	wire *Wire
	self overlay.MAC
}

// Send implements tunnel.Socket. What nobody receives is lost.
func (s *Socket) Send(to overlay.MAC, payload []byte) error {
	if c := s.wire.carry(s.self, to, payload); c != nil {
		select {
		case c <- frame{s.self, slices.Clone(payload)}:
		default:
		}
	}
	return nil
}

// Receive implements tunnel.Socket.
func (s *Socket) Receive(ctx context.Context, buf []byte) (int, overlay.MAC, error) {
	s.wire.mu.Lock()
	own := s.wire.sockets[s.self]
	s.wire.mu.Unlock()
	select {
	case f := <-own:
		return copy(buf, f.payload), f.from, nil
	case <-ctx.Done():
		return 0, overlay.MAC{}, ctx.Err()
	}
}

// Close implements tunnel.Socket.
func (s *Socket) Close() error { return nil }

// Tap is a tunnel.Tap.
type Tap struct {
	wire *Wire
	self overlay.MAC
	seen chan tapped
}

type tapped struct {
	datagram []byte
	outgoing bool
}

// Tap returns a tap at the device of an address.
func (w *Wire) Tap(a overlay.MAC) *Tap {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &Tap{w, a, make(chan tapped, 1000)}
	w.taps[a] = append(w.taps[a], t)
	return t
}

// Receive implements tunnel.Tap.
func (t *Tap) Receive(ctx context.Context, buf []byte) (n int, outgoing bool, err error) {
	select {
	case p := <-t.seen:
		return copy(buf, p.datagram), p.outgoing, nil
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
}

// Close implements tunnel.Tap.
func (t *Tap) Close() error {
	t.wire.mu.Lock()
	defer t.wire.mu.Unlock()
	t.wire.taps[t.self] = slices.DeleteFunc(t.wire.taps[t.self], func(o *Tap) bool { return o == t })
	return nil
}
