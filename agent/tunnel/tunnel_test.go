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
