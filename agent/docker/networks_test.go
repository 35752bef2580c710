package docker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// following is an engine that is followed, once its networks were listed.
func following(t *testing.T, a side, socket string) (e *engine, ended <-chan struct{}) {
	t.Helper()
	e = newEngine(agentOf(a), slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.follow(t.Context(), placeOf(socket))
	}()
	t.Cleanup(func() { <-done })
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		e.mu.Lock()
		listed := e.objects != nil
		e.mu.Unlock()
		if listed {
			return e, done
		}
		if time.Now().After(until) {
			t.Fatal("the engine's networks are not listed")
		}
	}
}

// An engine that goes away while the host leaves, and comes back, loses its
// networks all the same.
func TestClearOutlivesTheConnectionToTheEngine(t *testing.T) {
	var (
		e     *engine
		asked atomic.Int32
		ended <-chan struct{}
		stop  = make(chan struct{})
	)
	f := newFake()
	f.cluster.Networks = f.cluster.Networks[:1]
	f.cluster.Objects["n1"] = "b1"
	e, ended = following(t, f, answering(t, map[string]http.HandlerFunc{
		"GET /version":     saying(`{"Version":"20.10.24"}`),
		"GET /networks":    saying(`[{"Name":"blue","Id":"n1","Driver":"weft","Labels":{"weft":"1"}}]`),
		"GET /networks/n1": saying(`{"Name":"blue","Id":"n1"}`),
		"GET /events": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			<-stop
		},
		"DELETE /networks/n1": func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) > 1 {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			close(stop)
			<-ended
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"message":"the daemon is shutting down"}`))
		},
	}))
	if err := e.clear(t.Context()); err != nil || asked.Load() != 2 {
		t.Errorf("after %d questions: %v", asked.Load(), err)
	}
}

// An engine that hangs keeps no host from leaving: what it did not remove is named.
func TestClearDoesNotWaitForAnEngineThatHangs(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.cluster.Networks = f.cluster.Networks[:1]
	f.cluster.Objects["n1"], f.cluster.Objects["n2"] = "b1", "b1"
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	e, _ := following(t, f, answering(t, map[string]http.HandlerFunc{
		"GET /version": saying(`{"Version":"20.10.24"}`),
		"GET /networks": saying(`[{"Name":"blue","Id":"n1","Driver":"weft","Labels":{"weft":"1"}},
			{"Name":"sky","Id":"n2","Driver":"weft"}]`),
		"GET /networks/n1": saying(`{"Name":"blue","Id":"n1"}`),
		"GET /networks/n2": saying(`{"Name":"sky","Id":"n2"}`),
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"DELETE /networks/n1": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"message":"blue has active endpoints"}`))
		},
		"DELETE /networks/n2": hangs,
	}))
	begun := time.Now()
	err := e.clear(t.Context())
	if took := time.Since(begun); took > 2*clearFor {
		t.Errorf("it takes %v", took)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "network sky") || !strings.Contains(err.Error(), "network blue: Error response from daemon: blue has active endpoints") {
		t.Errorf("what is left: %v", err)
	}

	if err := e.change(t.Context()); err != nil { // as while a look hangs
		t.Fatal(err)
	}
	defer e.changed()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.clear(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside a look at the networks: %v", err)
	}
}
