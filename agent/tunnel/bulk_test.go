package tunnel

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/overlay"
)

// trunk carries bulk between hosts, in packets of which it damages a part.
type trunk struct {
	mu      sync.Mutex
	ends    map[overlay.MAC]chan piece
	damages func(n int) bool
	sent    int
}

type piece struct {
	from   overlay.MAC
	number uint32
	size   int
}

type trunkEnd struct {
	*trunk
	self overlay.MAC
}

func (e trunkEnd) Send(to overlay.MAC, number uint32, size, segment int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent++
	for n := 0; size > 0; n++ {
		p := piece{e.self, number, min(size, segment-40)}
		size -= p.size
		if !e.damages(n) {
			e.ends[to] <- p
		}
	}
	return nil
}

func (e trunkEnd) Receive(ctx context.Context, _ []byte) (overlay.MAC, uint32, int, error) {
	select {
	case p := <-e.ends[e.self]:
		return p.from, p.number, p.size, nil
	case <-ctx.Done():
		return overlay.MAC{}, 0, 0, ctx.Err()
	}
}

func (e trunkEnd) Close() error { return nil }

func TestBulkThatIsDamagedFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damages func(n int) bool
		want    State
	}{
		{"nothing", func(int) bool { return false }, OK},
		{"one segment of twenty", func(n int) bool { return n%20 == 0 }, OK},
		{"all but the last segment", func(n int) bool { return n < 42 }, Failing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2)
				b := &trunk{ends: map[overlay.MAC]chan piece{}, damages: tt.damages}
				for n, h := range c.hosts {
					mac := hostMAC(n + 1)
					b.ends[mac] = make(chan piece, 1000)
					h.prober.bulks.open = func() (Bulk, error) { return trunkEnd{b, mac}, nil }
				}
				stop := c.run()
				time.Sleep(15 * time.Second)
				p := c.proof(1, 2)
				if p.Bulk != tt.want || p.State() != tt.want || (p.Why == "") != (tt.want == OK) || (p.Hint == "") != (tt.want == OK) {
					t.Errorf("%+v", p)
				}
				b.mu.Lock()
				b.damages, b.sent = func(int) bool { return false }, 0
				b.mu.Unlock()
				time.Sleep(bulkAgain + 15*time.Second)
				if p := c.proof(1, 2); p.Bulk != OK || p.Why != "" {
					t.Errorf("mended: %+v", p)
				}
				if tt.want == Failing {
					c.assertEvents(1, "tunnel-failing h2 bulk", "tunnel-ok h2 bulk")
				} else {
					c.assertEvents(1)
				}
				time.Sleep(29 * time.Minute)
				if b.sent > 8 {
					t.Errorf("bulk was sent %d times in half an hour, once in ten minutes by each host is meant", b.sent)
				}
				stop()
			})
		})
	}
}

// A host that cannot tell, since it runs an older release, is no failure.
func TestBulkOfAnOlderRelease(t *testing.T) {
	for _, answer := range [][]byte{nil, {0}, {1}, {2, 0, 0, 0, 0}, make([]byte, 100)} {
		if size, err := parseBulkAnswer(answer); !errors.Is(err, errOlder) {
			t.Errorf("% x: %d bytes, %v", answer, size, err)
		}
	}
}

// What others send grows nothing without bound, and is no more than was sent.
func TestBulkThatNobodyAskedFor(t *testing.T) {
	b := newBulks(nil)
	for n := range uint32(1000) {
		b.note(hostMAC(2), n, bulkSize)
		b.note(hostMAC(2), n, bulkSize)
	}
	if len(b.came) != bulkKept {
		t.Errorf("%d are kept", len(b.came))
	}
	if size, err := parseBulkAnswer(b.answer(hostID(2), []byte{bulkKind, 0, 0, 3, 231})); err != nil || size != bulkSize {
		t.Errorf("%d bytes, %v", size, err)
	}
	if size, err := parseBulkAnswer(b.answer(hostID(3), []byte{bulkKind, 0, 0, 3, 231})); err != nil || size != 0 {
		t.Errorf("of another host: %d bytes, %v", size, err)
	}
	if plan.ProbeMAC(hostID(2)) == plan.ProbeMAC(hostID(3)) {
		t.Error("two hosts have one address")
	}
}
