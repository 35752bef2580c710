package tunnel

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/agent/tunnel/tunneltest"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

var (
	here  = discovery.HostID{1}
	there = discovery.HostID{2}
)

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
				w := tunneltest.NewWire()
				w.Block(plan.ProbeMAC(tt.blocked))
				sides := map[discovery.HostID]*Tunnel{}
				for _, id := range []discovery.HostID{here, there} {
					w.Add(plan.ProbeMAC(id))
					sides[id] = New(Config{Self: id, Open: func() (Socket, error) { return w.Open(plan.ProbeMAC(id)), nil }})
				}
				for _, side := range sides {
					go func() { _ = side.Run(ctx) }()
				}
				synctest.Wait()
				try, stop := context.WithTimeout(ctx, 3*time.Second)
				defer stop()
				number, err := sides[here].reach(try, there)
				if (err == nil) != tt.reached || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want reached %t", err, tt.reached)
				}
				synctest.Wait()
				if got, _ := sides[there].Serve(append([]byte{probeQuestion}, number[:]...)); (got[0] == 1) != tt.requests {
					t.Errorf("the other side answers %v to whether the request came, want %t", got, tt.requests)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestProbeIgnoresGarbage(t *testing.T) {
	side := New(Config{Self: here})
	for _, body := range [][]byte{{probeQuestion}, {probeQuestion, 1, 2}, append([]byte{probeQuestion}, make([]byte, 500)...)} {
		if got, ok := side.Serve(body); !ok || len(got) != 1 || got[0] != 0 {
			t.Errorf("Serve(%v) = %v, %t, want no", body, got, ok)
		}
	}
	for _, body := range [][]byte{nil, make([]byte, 500)} {
		if got, ok := side.Serve(body); ok {
			t.Errorf("Serve(%v) = %v, though it is no question of this package", body, got)
		}
	}
}

// frames hands over what came, then ends.
type frames struct {
	left [][]byte
	sent int
}

func (s *frames) Receive(_ context.Context, b []byte) (int, overlay.MAC, error) {
	if len(s.left) == 0 {
		return 0, overlay.MAC{}, errors.New("closed")
	}
	n := copy(b, s.left[0])
	s.left = s.left[1:]
	return n, overlay.MAC{2}, nil
}

func (s *frames) Send(overlay.MAC, []byte) error { s.sent++; return nil }
func (s *frames) Close() error                   { return nil }

// No frame or question, whoever sends it, is taken for an answer that was not asked
// for, or grows what is kept.
func FuzzFrames(f *testing.F) {
	t := New(Config{Self: here})
	f.Add(t.frame(probeRequest, probeNumber{1}), append([]byte{probeQuestion}, make([]byte, 8)...))
	f.Add(t.frame(probeReply, probeNumber{2}), []byte{probeQuestion})
	f.Add([]byte{probeRequest}, []byte(nil))
	f.Fuzz(func(t *testing.T, frame, question []byte) {
		tun := New(Config{Self: here})
		answered := make(chan struct{})
		tun.waiting[probeNumber{2}] = answered
		s := &frames{left: [][]byte{frame, frame}}
		_ = tun.receive(t.Context(), s)
		if s.sent > 2 || len(tun.seen) > 2 {
			t.Errorf("two frames: %d answers, %d requests kept", s.sent, len(tun.seen))
		}
		select {
		case <-answered:
			if len(frame) < probeSize || frame[0] != probeReply || probeNumber(frame[1:9]) != (probeNumber{2}) {
				t.Errorf("% x was taken for the answer", frame)
			}
		default:
		}
		tun.Serve(question)
	})
}
