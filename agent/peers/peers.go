// Package peers carries questions that a person asks of the whole cluster, such as what
// drifted on each host, from one member to another and brings the answers back. What is
// asked and what is answered is JSON; the package knows neither.
package peers

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery"
)

// first begins the body of a Call that is a question of this package. It is none of the
// tunnel's questions and none of the address messages' versions.
const first = 0x71

const (
	largestQuestion = 64 << 10 // bytes of JSON
	largestAnswer   = 16 << 20 // bytes of JSON; on the wire it is compressed
	answerWithin    = 30 * time.Second
	mostAtOnce      = 16 // questions that this host answers at a time
)

// Errors of Ask that callers test for with errors.Is; those of Call pass through.
var (
	// ErrUnknown: the member answers, and has no such question: its release is another.
	ErrUnknown = errors.New("the member does not know this question: its release is older or newer")
	// ErrBusy: the member answers too many questions already.
	ErrBusy = errors.New("the member answers too many questions at this moment")
	// ErrMalformed: the answer cannot be read.
	ErrMalformed = errors.New("the member's answer cannot be read")
)

// RefusedError is what a member answers instead, in its own words.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

// Call asks a member and returns its answer, as gossip.Gossip's does.
type Call func(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)

// Answer makes the answer to a question out of its JSON.
type Answer func(ctx context.Context, from discovery.HostID, question []byte) (any, error)

// Peers answers the questions that were registered with Handle. Its zero value answers
// each with ErrUnknown.
type Peers struct {
	mu      sync.Mutex // guards what follows
	answers map[string]Answer
	busy    int
}

// question and answer are what travels, behind the first byte.
type question struct {
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body,omitempty"`
}

type answer struct {
	Body    json.RawMessage `json:"body,omitempty"`
	Refused string          `json:"refused,omitempty"`
	Unknown bool            `json:"unknown,omitempty"`
	Busy    bool            `json:"busy,omitempty"`
}

// Handle has a kind of question answered from now on.
func (p *Peers) Handle(kind string, a Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == nil {
		p.answers = map[string]Answer{}
	}
	p.answers[kind] = a
}

// Handler makes an Answer of a function that takes the question as a Q.
func Handler[Q, A any](do func(ctx context.Context, from discovery.HostID, q Q) (A, error)) Answer {
	return func(ctx context.Context, from discovery.HostID, raw []byte) (any, error) {
		var q Q
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields() // half a question must not be answered as a whole one
		if err := d.Decode(&q); err != nil {
			return nil, fmt.Errorf("the question cannot be read: %w", err)
		}
		return do(ctx, from, q)
	}
}

// Serve answers a member's Call; ok: it was a question of this package. It may take its
// time: Call's caller says how long it waits.
func (p *Peers) Serve(from discovery.HostID, body []byte) (reply []byte, ok bool) {
	if len(body) == 0 || body[0] != first {
		return nil, false
	}
	return pack(p.answer(from, body[1:])), true
}

func (p *Peers) answer(from discovery.HostID, packed []byte) answer {
	var q question
	raw, err := unpack(packed, largestQuestion)
	if err == nil {
		err = json.Unmarshal(raw, &q)
	}
	if err != nil {
		return answer{Refused: "the question cannot be read: " + err.Error()}
	}
	a, free := p.begin(q.Kind)
	switch {
	case a == nil:
		return answer{Unknown: true}
	case !free:
		return answer{Busy: true}
	}
	defer p.end()
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	out, err := a(ctx, from, q.Body)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	b, err := json.Marshal(out)
	switch {
	case err != nil:
		return answer{Refused: "the answer cannot be written: " + err.Error()}
	case len(b) > largestAnswer:
		return answer{Refused: fmt.Sprintf("the answer has %d MiB, at most %d: ask for less", len(b)>>20, largestAnswer>>20)}
	}
	return answer{Body: b}
}

// begin takes a place among those that are answered.
func (p *Peers) begin(kind string) (a Answer, free bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a = p.answers[kind]; a == nil || p.busy >= mostAtOnce {
		return a, false
	}
	p.busy++
	return a, true
}

func (p *Peers) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
}

// Ask asks one member. The error is ErrUnknown, ErrBusy, ErrMalformed, a *RefusedError
// or call's.
func Ask[A any](ctx context.Context, call Call, to discovery.HostID, kind string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	raw, err := call(ctx, to, pack(question{Kind: kind, Body: body}))
	if err != nil {
		return a, err
	}
	if len(raw) == 0 || raw[0] != first {
		return a, ErrUnknown // a release without this package answers something else, or nothing
	}
	var got answer
	raw, err = unpack(raw[1:], largestAnswer+largestQuestion)
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	switch {
	case err != nil:
		return a, fmt.Errorf("%w: %w", ErrMalformed, err)
	case got.Unknown:
		return a, ErrUnknown
	case got.Busy:
		return a, ErrBusy
	case got.Refused != "":
		return a, &RefusedError{Why: got.Refused}
	}
	if err := json.Unmarshal(got.Body, &a); err != nil {
		return a, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return a, nil
}

// One is what a member answered.
type One[A any] struct {
	Host   discovery.Member
	Answer A
	Err    error // as Ask's
}

// All asks members side by side, each for at most wait, and returns their answers in
// the order of the members.
func All[A any](ctx context.Context, call Call, members []discovery.Member, wait time.Duration, kind string, q any) []One[A] {
	out := make([]One[A], len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			a, err := Ask[A](ctx, call, m.ID, kind, q)
			out[i] = One[A]{m, a, err}
		})
	}
	wg.Wait()
	return out
}

// pack writes what travels.
func pack(v any) []byte {
	var out bytes.Buffer
	out.WriteByte(first)
	w := gzip.NewWriter(&out)
	_ = json.NewEncoder(w).Encode(v) // of our own types, into memory
	_ = w.Close()
	return out.Bytes()
}

// unpack reads at most so many bytes: a few on the wire can be many in memory.
func unpack(packed []byte, most int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return raw, err
}
