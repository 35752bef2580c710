package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// wire joins probe sockets by address; blocked ones receive nothing.
type wire struct {
	mu      sync.Mutex
	sockets map[overlay.MAC]chan frame
	blocked map[overlay.MAC]bool
}

type frame struct {
	from    overlay.MAC
	payload []byte
}

type wireSocket struct {
	*wire
	self overlay.MAC
}

// socket returns the channel of an address, nil when there is none.
func (w *wire) socket(a overlay.MAC) chan frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sockets[a]
}

func (w *wire) add(a overlay.MAC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sockets[a] = make(chan frame, 1000)
}

func (s wireSocket) Send(to overlay.MAC, payload []byte) error {
	if c := s.socket(to); c != nil && !s.blocked[to] {
		c <- frame{s.self, slices.Clone(payload)}
	}
	return nil
}

func (s wireSocket) Receive(ctx context.Context, buf []byte) (int, overlay.MAC, error) {
	select {
	case f := <-s.socket(s.self):
		return copy(buf, f.payload), f.from, nil
	case <-ctx.Done():
		return 0, overlay.MAC{}, ctx.Err()
	}
}

func (s wireSocket) Close() error { return nil }

func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name     string
		blocked  discovery.HostID // who receives nothing
		reached  bool
		requests bool // the other side saw the request
	}{
		{"both ways", discovery.HostID{}, true, true},
		{"the way there is blocked", there, false, false},
		{"the way back is blocked", here, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				w := &wire{sockets: map[overlay.MAC]chan frame{}, blocked: map[overlay.MAC]bool{probeMAC(tt.blocked): true}}
				sides := map[discovery.HostID]*prober{here: {self: here}, there: {self: there}}
				for id := range sides {
					w.sockets[probeMAC(id)] = make(chan frame, 1000)
				}
				for id, p := range sides {
					go func() { _ = p.run(ctx, func() (Probe, error) { return wireSocket{w, probeMAC(id)}, nil }) }()
				}
				synctest.Wait()
				try, stop := context.WithTimeout(ctx, 3*time.Second)
				defer stop()
				number, err := sides[here].reach(try, there)
				if (err == nil) != tt.reached || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want reached %t", err, tt.reached)
				}
				synctest.Wait()
				if got := sides[there].serve(append([]byte{probeQuestion}, number[:]...)); (got[0] == 1) != tt.requests {
					t.Errorf("the other side answers %v to whether the request came, want %t", got, tt.requests)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestProbeIgnoresGarbage(t *testing.T) {
	p := &prober{self: here}
	for _, body := range [][]byte{nil, {probeQuestion}, {probeQuestion, 1, 2}, make([]byte, 500)} {
		if got := p.serve(body); len(got) != 1 || got[0] != 0 {
			t.Errorf("serve(%v) = %v, want no", body, got)
		}
	}
}
