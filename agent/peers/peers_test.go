package peers_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/discovery"
)

type sum struct {
	A, B int
}

// to makes a Call that reaches p at once.
func to(p *peers.Peers) peers.Call {
	return func(_ context.Context, _ discovery.HostID, body []byte) ([]byte, error) {
		reply, ok := p.Serve(discovery.HostID{7}, body)
		if !ok {
			return nil, errors.New("not for peers")
		}
		return reply, nil
	}
}

func adds(_ context.Context, from discovery.HostID, q sum) (int, error) {
	if q.B == 0 {
		return 0, errors.New("B is zero, says " + from.String()[:2])
	}
	return q.A + q.B, nil
}

func TestQuestionsAreAnswered(t *testing.T) {
	var p peers.Peers
	p.Handle("add", peers.Handler(adds))
	if got, err := peers.Ask[int](t.Context(), to(&p), discovery.HostID{1}, "add", sum{3, 4}); got != 7 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	_, err := peers.Ask[int](t.Context(), to(&p), discovery.HostID{1}, "add", sum{3, 0})
	if e, ok := errors.AsType[*peers.RefusedError](err); !ok || e.Why != "B is zero, says 07" {
		t.Errorf("refused: %v", err)
	}
	if _, err := peers.Ask[int](t.Context(), to(&p), discovery.HostID{1}, "subtract", sum{3, 4}); !errors.Is(err, peers.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := peers.Ask[int](t.Context(), to(&p), discovery.HostID{1}, "add", map[string]int{"A": 1, "B": 1, "C": 1}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a question with more in it: %v", err)
	}
	if _, err := peers.Ask[[]string](t.Context(), to(&p), discovery.HostID{1}, "add", sum{3, 4}); !errors.Is(err, peers.ErrMalformed) {
		t.Errorf("an answer of another shape: %v", err)
	}
}

// A member of a release without these questions answers nothing, or what it takes them for.
func TestOlderMembersAreSaid(t *testing.T) {
	for _, reply := range [][]byte{nil, {1}, []byte("x")} {
		old := func(context.Context, discovery.HostID, []byte) ([]byte, error) { return reply, nil }
		if _, err := peers.Ask[int](t.Context(), old, discovery.HostID{1}, "add", sum{}); !errors.Is(err, peers.ErrUnknown) {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

func TestOneMemberCannotTakeAllPlaces(t *testing.T) {
	var p peers.Peers
	release, begun := make(chan struct{}), make(chan struct{}, 100)
	p.Handle("wait", peers.Handler(func(context.Context, discovery.HostID, struct{}) (int, error) {
		begun <- struct{}{}
		<-release
		return 1, nil
	}))
	members := make([]discovery.Member, 20)
	done := make(chan []peers.One[int], 1)
	go func() {
		done <- peers.All[int](t.Context(), to(&p), members, time.Hour, "wait", struct{}{})
	}()
	for range 16 {
		<-begun
	}
	close(release)
	busy := 0
	for _, one := range <-done {
		if errors.Is(one.Err, peers.ErrBusy) {
			busy++
		} else if one.Answer != 1 || one.Err != nil {
			t.Errorf("%+v", one)
		}
	}
	if busy > 4 {
		t.Errorf("%d of 20 were refused, at most 4", busy)
	}
}

// What is small on the wire may be a gigabyte in memory.
func TestBombsAreNotUnpacked(t *testing.T) {
	var packed bytes.Buffer
	packed.WriteByte(0x71)
	w := gzip.NewWriter(&packed)
	for range 64 {
		w.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	w.Close()
	var p peers.Peers
	p.Handle("add", peers.Handler(adds))
	body := bytes.Clone(packed.Bytes())
	served := func(context.Context, discovery.HostID, []byte) ([]byte, error) {
		reply, _ := p.Serve(discovery.HostID{}, body)
		return reply, nil
	}
	if _, err := peers.Ask[int](t.Context(), served, discovery.HostID{1}, "add", sum{}); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("a question that is too large: %v", err)
	}
	bomb := func(context.Context, discovery.HostID, []byte) ([]byte, error) { return body, nil }
	if _, err := peers.Ask[int](t.Context(), bomb, discovery.HostID{1}, "add", sum{}); !errors.Is(err, peers.ErrMalformed) {
		t.Errorf("%v", err)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte{0x71})
	f.Add([]byte{0x70, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		var p peers.Peers
		p.Handle("add", peers.Handler(adds))
		if reply, ok := p.Serve(discovery.HostID{}, body); ok != (len(body) > 0 && body[0] == 0x71) || ok && len(reply) == 0 {
			t.Errorf("%v, %q", ok, reply)
		}
		answer := func(context.Context, discovery.HostID, []byte) ([]byte, error) { return body, nil }
		_, _ = peers.Ask[int](t.Context(), answer, discovery.HostID{1}, "add", sum{})
	})
}
