package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// everyEvent has every field of a query set.
var everyEvent = api.EventQuery{Since: "1h", Until: "2026-01-02", Kinds: []string{"forced", "conflict"}, Network: "blue", Endpoint: "web", Host: "host2",
	All: true, Follow: true, After: "host1:7"}

func TestAStreamIsServerSentEvents(t *testing.T) {
	f := &fake{}
	r := httptest.NewRequest("GET", "/v1/events?all=true", nil)
	r.Host = "agentd"
	r.Header.Set("Last-Event-ID", "host1:6")
	w := httptest.NewRecorder()
	handlerOf(f).ServeHTTP(w, r)
	want := []string{"id: host1:7\ndata: {\"at\":\"2026-01-02T03:04:05.000000006Z\"", "\"text\":\"a\\nb: <c>\"", "\n\nevent: unasked\ndata: {\"host\":\"host2\"",
		"\n\nid: host1:7,host3:9\ndata: ", "\n\nevent: end\ndata: {}\n\n"}
	body := w.Body.String()
	for _, part := range want {
		i := strings.Index(body, part)
		if i < 0 {
			t.Fatalf("%q is not next in\n%s", part, w.Body)
		}
		body = body[i+len(part):]
	}
	if q := f.last.(api.EventQuery); q.After != "host1:6" || !q.All || w.Header().Get("Content-Type") != "text/event-stream" || body != "" {
		t.Errorf("%+v, %s, %q is left", q, w.Header(), body)
	}
}

// A stream whose agent goes away has not ended.
func TestAStreamThatStopsIsAnError(t *testing.T) {
	for body, want := range map[string]string{
		"":                                "it stopped before the end",
		"data: {\"kind\":\"forced\"}\n\n": "it stopped before the end",
		"data: {\"kind\":\"forced\"}\n":   "it stopped before the end",
		"event: failed\ndata: {\"kind\":\"conflict\",\"message\":\"oh\"}\n\n": "oh",
		"data: nothing\n\n": "read an event",
		"event: news\ndata: {}\n\nevent: end\ndata: {}\n\n": "",
	} {
		path := answering(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		err := api.NewClient(path).Events(t.Context(), api.EventQuery{}, func(api.EventItem) error { return nil })
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
}

// flood never ends.
type flood struct {
	api.Service
	ended chan error
}

func (f flood) Events(_ context.Context, _ api.EventQuery, each func(api.EventItem) error) error {
	for {
		if err := each(api.EventItem{Event: &api.Event{Text: strings.Repeat("x", 1<<16)}}); err != nil {
			f.ended <- err
			return err
		}
	}
}

// A reader that goes away in the middle, or stops the stream by itself, ends the call.
func TestAReaderMayStop(t *testing.T) {
	f := flood{ended: make(chan error, 1)}
	enough := errors.New("enough")
	path := answering(t, api.NewHandler(f, slog.New(slog.DiscardHandler)))
	if err := api.NewClient(path).Events(t.Context(), api.EventQuery{}, func(api.EventItem) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	select {
	case <-f.ended:
	case <-time.After(time.Minute):
		t.Error("the agent still writes to a reader that is gone")
	}
}

// answering answers on a unix socket until the test ends.
func answering(t *testing.T, h http.Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return path
}
