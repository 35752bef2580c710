package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// EventQuery selects events; empty fields select all.
type EventQuery struct {
	Since    string   // a duration back ("1h"), or a date and time
	Until    string   // likewise
	Kinds    []string // any of these
	Network  string   // name
	Endpoint string   // its name, address, id or the start of it
	Host     string   // name of the member that wrote them down; empty: this one
	All      bool     // of every member
	Follow   bool     // goes on; without Since and After it begins now
	After    string   // the Cursor of an earlier item: what comes after it
}

// Event is one thing that happened.
type Event struct {
	At       time.Time      `json:"at"`
	Host     string         `json:"host"` // that wrote it down
	Kind     string         `json:"kind"`
	Subject  string         `json:"subject,omitempty"`
	Network  string         `json:"network,omitempty"`
	Endpoint string         `json:"endpoint,omitempty"` // id
	Addr     string         `json:"addr,omitempty"`
	By       string         `json:"by,omitempty"` // a user, a runtime, or the host itself
	Text     string         `json:"text,omitempty"`
	Detail   map[string]any `json:"detail,omitempty"`
}

// EventItem is one of what Events finds: an event, or a member that did not answer.
type EventItem struct {
	Event   *Event
	Unasked *Unasked
	Cursor  string // for EventQuery.After; empty: that of the item before
}

// EndpointSpan is a time in which an endpoint had an address.
type EndpointSpan struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Network string    `json:"network"`
	Address string    `json:"address"`
	Host    string    `json:"host"`
	From    time.Time `json:"from,omitzero"` // zero: before what is written down
	To      time.Time `json:"to,omitzero"`   // zero: it goes on
	By      string    `json:"by,omitempty"`
	EndedBy string    `json:"ended_by,omitempty"`
	Why     string    `json:"why,omitempty"` // how it ended
}

// EndpointHistory answers GET /v1/endpoints/{endpoint}/history.
type EndpointHistory struct {
	Spans   []EndpointSpan `json:"spans"` // by begin
	Unasked []Unasked      `json:"unasked,omitempty"`
}

// The names of the events of the stream (text/event-stream). An event has none, as a
// browser's EventSource expects it.
const (
	streamUnasked = "unasked"
	streamEnd     = "end"    // there is no more; without it the agent has gone away
	streamFailed  = "failed" // its data is an Error
)

// readerTime is how long a reader may let one event wait before it is dropped.
const readerTime = 10 * time.Second

// events serves the stream. A reader that is too slow is dropped.
func events(s Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := eventQuery(r)
		if err != nil {
			fail(w, err)
			return
		}
		out := &eventWriter{w: w, rc: http.NewResponseController(w)}
		err = s.Events(r.Context(), q, out.item)
		switch {
		case out.broken:
		case err != nil && !out.started:
			fail(w, err)
		case err != nil:
			_ = out.write(streamFailed, "", asError(err))
		default:
			_ = out.write(streamEnd, "", struct{}{})
		}
	}
}

func eventQuery(r *http.Request) (q EventQuery, err error) {
	p, err := parameters(r, "since", "until", "kind", "network", "endpoint", "host", "all", "follow", "after")
	if err != nil {
		return q, err
	}
	q = EventQuery{Since: p.Get("since"), Until: p.Get("until"), Network: p.Get("network"), Endpoint: p.Get("endpoint"), Host: p.Get("host"),
		After: cmp.Or(r.Header.Get("Last-Event-ID"), p.Get("after"))}
	if k := p.Get("kind"); k != "" {
		q.Kinds = strings.Split(k, ",")
	}
	if q.All, err = p.flag("all"); err == nil {
		q.Follow, err = p.flag("follow")
	}
	return q, err
}

// eventWriter writes server-sent events, each of which leaves at once.
type eventWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	started bool
	broken  bool // the reader is gone, or too slow
}

func (e *eventWriter) item(i EventItem) error {
	switch {
	case i.Event != nil:
		return e.write("", i.Cursor, i.Event)
	case i.Unasked != nil:
		return e.write(streamUnasked, i.Cursor, i.Unasked)
	}
	return e.begin() // the headers: a reader that follows knows that it is heard
}

func (e *eventWriter) begin() error {
	if !e.started {
		e.started = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("Cache-Control", "no-store")
	}
	return e.flush()
}

func (e *eventWriter) write(name, id string, v any) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	b.WriteString("data: ")
	if err := encoder(&b).Encode(v); err != nil { // one line
		return err
	}
	b.WriteByte('\n')
	// A writer without a connection cannot be slow.
	_ = e.rc.SetWriteDeadline(time.Now().Add(readerTime))
	defer func() { _ = e.rc.SetWriteDeadline(time.Time{}) }()
	if !e.started {
		if err := e.begin(); err != nil {
			return err
		}
	}
	if _, err := e.w.Write(b.Bytes()); err != nil {
		e.broken = true
		return err
	}
	return e.flush()
}

func (e *eventWriter) flush() error {
	err := e.rc.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a recorder: nobody waits behind it
	}
	e.broken = e.broken || err != nil
	return err
}

// Events is GET /v1/events. It returns nil when there are no more events, and each's
// error when that returns one.
func (c *Client) Events(ctx context.Context, q EventQuery, each func(EventItem) error) error {
	v := url.Values{}
	for key, value := range map[string]string{"since": q.Since, "until": q.Until, "kind": strings.Join(q.Kinds, ","), "network": q.Network,
		"endpoint": q.Endpoint, "host": q.Host, "after": q.After} {
		set(v, key, value)
	}
	for key, value := range map[string]bool{"all": q.All, "follow": q.Follow} {
		if value {
			v.Set(key, strconv.FormatBool(true))
		}
	}
	res, err := c.send(ctx, http.MethodGet, withQuery("/v1/events", v), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for r := bufio.NewReader(res.Body); ; {
		one, err := readServerSent(r)
		if err != nil {
			return c.explain(ctx, fmt.Errorf("it stopped before the end: %w", err))
		}
		item := EventItem{Cursor: one.id}
		switch one.name {
		case streamEnd:
			return nil
		case streamFailed:
			e := new(Error)
			if err := json.Unmarshal(one.data, e); err != nil {
				return c.explain(ctx, err)
			}
			return e
		case streamUnasked:
			item.Unasked = new(Unasked)
			err = json.Unmarshal(one.data, item.Unasked)
		default:
			item.Event = new(Event)
			err = json.Unmarshal(one.data, item.Event)
		}
		if err != nil {
			return c.explain(ctx, fmt.Errorf("read an event: %w", err))
		}
		if err := each(item); err != nil {
			return err
		}
	}
}

// serverSent is one event of a stream.
type serverSent struct {
	id, name string
	data     []byte
}

// readServerSent reads up to the next empty line.
func readServerSent(r *bufio.Reader) (out serverSent, err error) {
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return out, err
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 && out.data != nil {
			return out, nil
		}
		key, value, _ := bytes.Cut(line, []byte(": "))
		switch string(key) {
		case "id":
			out.id = string(value)
		case "event":
			out.name = string(value)
		case "data":
			out.data = append(out.data, value...)
		}
	}
}

func endpointHistory(s Service) func(context.Context, *http.Request) (EndpointHistory, error) {
	return func(ctx context.Context, r *http.Request) (EndpointHistory, error) {
		p, err := parameters(r, "at")
		if err != nil {
			return EndpointHistory{}, err
		}
		return s.EndpointHistory(ctx, r.PathValue("endpoint"), p.Get("at"))
	}
}

// EndpointHistory is GET /v1/endpoints/{endpoint}/history.
func (c *Client) EndpointHistory(ctx context.Context, nameOrAddress, at string) (EndpointHistory, error) {
	path, err := join("/v1/endpoints", nameOrAddress, "history")
	if err != nil {
		return EndpointHistory{}, err
	}
	v := url.Values{}
	set(v, "at", at)
	return ask[EndpointHistory](ctx, c, http.MethodGet, withQuery(path, v), nil)
}
