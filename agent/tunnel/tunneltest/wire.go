// Package tunneltest joins probe sockets in memory. It stands in for the probe
// network.
package tunneltest

import (
	"context"
	"slices"
	"sync"

	"github.com/weft-net/weft/overlay"
)

// Wire carries frames between the sockets that were added.
type Wire struct {
	mu      sync.Mutex
	sockets map[overlay.MAC]chan frame
	blocked map[overlay.MAC]bool
}

type frame struct {
	from    overlay.MAC
	payload []byte
}

// NewWire returns one without sockets.
func NewWire() *Wire {
	return &Wire{sockets: map[overlay.MAC]chan frame{}, blocked: map[overlay.MAC]bool{}}
}

// Add makes a place for the socket of an address.
func (w *Wire) Add(a overlay.MAC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sockets[a] = make(chan frame, 1000)
}

// Block loses what is sent to an address from now on.
func (w *Wire) Block(a overlay.MAC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked[a] = true
}

// Open returns the socket of an address.
func (w *Wire) Open(a overlay.MAC) *Socket { return &Socket{w, a} }

// at returns the channel of an address, nil when there is none, and whether what
// is sent to it is lost.
func (w *Wire) at(a overlay.MAC) (c chan frame, blocked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sockets[a], w.blocked[a]
}

// Socket is a tunnel.Socket.
type Socket struct {
	wire *Wire
	self overlay.MAC
}

// Send implements tunnel.Socket. What nobody receives is lost.
func (s *Socket) Send(to overlay.MAC, payload []byte) error {
	if c, blocked := s.wire.at(to); c != nil && !blocked {
		c <- frame{s.self, slices.Clone(payload)}
	}
	return nil
}

// Receive implements tunnel.Socket.
func (s *Socket) Receive(ctx context.Context, buf []byte) (int, overlay.MAC, error) {
	own, _ := s.wire.at(s.self)
	select {
	case f := <-own:
		return copy(buf, f.payload), f.from, nil
	case <-ctx.Done():
		return 0, overlay.MAC{}, ctx.Err()
	}
}

// Close implements tunnel.Socket.
func (s *Socket) Close() error { return nil }
