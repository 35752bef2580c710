package tunnel

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

func TestQuestionsThatAreNone(t *testing.T) {
	side := New(Config{Self: hostID(1)})
	for _, body := range [][]byte{{questionKind}, {questionKind, 1, 2}, append([]byte{questionKind}, make([]byte, 8)...), append([]byte{questionKind}, make([]byte, 500)...)} {
		if got, ok := side.Serve(hostID(2), body); !ok || len(got) != 1 || got[0] != 0 {
			t.Errorf("Serve(%v) = %v, %t, want no", body, got, ok)
		}
	}
	for _, body := range [][]byte{nil, make([]byte, 500)} {
		if got, ok := side.Serve(hostID(2), body); ok {
			t.Errorf("Serve(%v) = %v, though it is no question of this package", body, got)
		}
	}
}

// Hosts of the release before ask about one request.
func TestOlderQuestion(t *testing.T) {
	side := New(Config{Self: hostID(1)})
	q := question(0x1234500, 3)
	for _, want := range []byte{0, 1} {
		if got, ok := side.Serve(hostID(2), q[:questionSize-1]); !ok || len(got) != 1 || got[0] != want {
			t.Errorf("got %v, %t, want %d", got, ok, want)
		}
		side.prober.wire.note(noted{hostID(2), 0x1234500})
	}
	if _, err := parseAnswer([]byte{0}); !errors.Is(err, errOlder) {
		t.Errorf("the answer of an older release: %v", err)
	}
}

// frames hands over what came, then ends.
type frames struct {
	left [][]byte
	from overlay.MAC
	sent int
}

func (s *frames) Receive(_ context.Context, b []byte) (int, overlay.MAC, error) {
	if len(s.left) == 0 {
		return 0, overlay.MAC{}, errors.New("closed")
	}
	n := copy(b, s.left[0])
	s.left = s.left[1:]
	return n, s.from, nil
}

func (s *frames) Send(overlay.MAC, []byte) error { s.sent++; return nil }
func (s *frames) Close() error                   { return nil }

// No frame, datagram, question or answer, whoever sends it, is taken for a reply that
// was not asked for, or grows what is kept.
func FuzzFrames(f *testing.F) {
	self, other := hostID(1), hostID(2)
	f.Add(frame{requestKind, 0x100, other}.encode(0), question(0x100, 4), evidence{came: 1}.answer())
	f.Add(frame{replyKind, 0x100, other}.encode(1450), question(0, 0)[:9], []byte{1})
	f.Add(frame{replyKind, 0x100, self}.encode(0), []byte{questionKind}, []byte(nil))
	f.Add([]byte{requestKind}, []byte(nil), make([]byte, 500))
	f.Fuzz(func(t *testing.T, b, body, answer []byte) {
		tun := New(Config{Self: self})
		w := tun.prober.wire
		v := w.begin(other)
		delete(w.waiting, v.first)
		v.first = 0x100
		w.waiting[v.first] = v
		v.sent, v.size, v.rtt = []time.Time{time.Now()}, []int{frameSize}, []time.Duration{0}
		s := &frames{left: [][]byte{b, b}, from: plan.ProbeMAC(other)}
		_ = w.receive(t.Context(), s)
		if s.sent > 2 || len(w.noted) > 2 {
			t.Errorf("two frames: %d answers, %d requests kept", s.sent, len(w.noted))
		}
		got, ok := decode(b)
		if v.some() && (!ok || got != frame{replyKind, 0x100, other}) {
			t.Errorf("% x was taken for the reply", b)
		}
		if ok && string(got.encode(len(b))[:frameSize]) != string(b[:frameSize]) {
			t.Errorf("% x is not what was read", b)
		}
		if d, ok := decapsulate(b); ok && plan.ProbeMAC(d.sender) != overlay.MAC(b[vxlanSize+6:]) {
			t.Errorf("% x names another sender than its address", b)
		}
		if answer, ok := tun.Serve(other, body); ok && len(answer) != 1 && len(answer) != answerSize && len(answer) != bulkAnswerSize {
			t.Errorf("% x is answered with % x", body, answer)
		}
		if size, err := parseBulkAnswer(answer); err == nil && size < 0 {
			t.Errorf("% x is %d bytes", answer, size)
		}
		if e, err := parseAnswer(answer); err == nil && string(e.answer()) != string(answer) {
			t.Errorf("% x is not what was read", answer)
		}
	})
}

func TestDecapsulate(t *testing.T) {
	f := frame{requestKind, 0x500, discovery.HostID{9}}
	mac := plan.ProbeMAC(f.sender)
	b := append([]byte{8, 0, 0, 0, 0, 0, discovery.ProbeVNI, 0, 1, 2, 3, 4, 5, 6}, mac[:]...)
	b = append(append(b, 0x88, 0xb5), f.encode(0)...)
	if got, ok := decapsulate(b); !ok || got != f {
		t.Errorf("got %+v, %t", got, ok)
	}
	for at, what := range map[int]string{6: "another VNI", 14: "another address", 22: "no kind", 40: "another sender"} {
		b[at] ^= 0x80
		if got, ok := decapsulate(b); ok {
			t.Errorf("%s: got %+v", what, got)
		}
		b[at] ^= 0x80
	}
}
