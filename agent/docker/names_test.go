package docker

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// inspected is names over an engine that has no container any more, and counts
// how often it was asked for one.
func inspected(t *testing.T) (*engine, *atomic.Int32) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/json") {
			asked.Add(1)
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such container"})
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(agentOf(newFake()), slog.New(slog.DiscardHandler))
	e.names = newNames(t.Context(), c, e.agent, e.log)
	return e, &asked
}

// A container that is gone before it was inspected leaves nothing.
func TestNothingIsKeptOfContainersThatAreGone(t *testing.T) {
	e, _ := inspected(t)
	e.names.look("c1")
	e.event(events.Message{Type: events.ContainerEventType, Action: events.ActionDestroy, Actor: events.Actor{ID: "c1"}})
	e.names.wait()
	if len(e.names.all) > 0 {
		t.Errorf("kept: %v", e.names.all)
	}
}

// Other networks of a container are looked at too: it asks from them for names,
// and what it leaves there another container gets.
func TestContainersAreLookedAtWhenOtherNetworksOfTheirsChange(t *testing.T) {
	for _, action := range []events.Action{events.ActionConnect, events.ActionDisconnect} {
		e, asked := inspected(t)
		e.names.get("c1").endpoints["e1"] = "blue"
		e.event(events.Message{Type: events.NetworkEventType, Action: action,
			Actor: events.Actor{ID: "n1", Attributes: map[string]string{"type": "bridge", "container": "c1"}}})
		e.names.wait()
		if asked.Load() != 1 {
			t.Errorf("%s: asked %d times", action, asked.Load())
		}
	}
}
