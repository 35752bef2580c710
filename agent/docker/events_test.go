package docker

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// listening is an agent that remembers what each endpoint was last described as.
type listening struct {
	*fake
	before func(Container) // called ahead of each; may be nil
	heard  chan struct{}   // filled after each

	mu   sync.Mutex
	last map[string]Container
}

func newListening() *listening {
	return &listening{fake: newFake(), heard: make(chan struct{}, 1), last: map[string]Container{}}
}

func (l *listening) Describe(_ context.Context, endpoint string, c Container) error {
	if l.before != nil {
		l.before(c)
	}
	l.mu.Lock()
	l.last[endpoint] = c
	l.mu.Unlock()
	select {
	case l.heard <- struct{}{}:
	default:
	}
	return nil
}

func (l *listening) of(endpoint string) Container {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[endpoint]
}

// await waits until an endpoint is described as it should be.
func (l *listening) await(t *testing.T, endpoint string, right func(Container) bool) {
	t.Helper()
	for late := time.After(10 * time.Second); !right(l.of(endpoint)); {
		select {
		case <-l.heard:
		case <-late:
			t.Fatalf("%s is described as %+v", endpoint, l.of(endpoint))
		}
	}
}

// answering is an engine's socket; each key is the method and the end of a path.
func answering(t *testing.T, answers map[string]http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Ostype", "linux")
		w.Header().Set("Content-Type", "application/json")
		for end, answer := range answers {
			if method, path, _ := strings.Cut(end, " "); r.Method == method && strings.HasSuffix(r.URL.Path, path) {
				answer(w, r)
				return
			}
		}
		_, _ = w.Write([]byte("{}"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

func saying(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// A network that the engine does not let go of holds up no container's name.
func TestEventsDoNotWaitForNetworks(t *testing.T) {
	stuck, happened := make(chan struct{}, 8), make(chan events.Message)
	socket := answering(t, map[string]http.HandlerFunc{
		"GET /version":     saying(`{"Version":"20.10.24"}`),
		"GET /networks":    saying(`[{"Name":"old","Id":"n9","Driver":"weft","Labels":{"weft":"1"}}]`),
		"GET /networks/n9": saying(`{"Name":"old","Id":"n9"}`),
		"GET /networks/n1": saying(`{"Name":"blue","Id":"n1","Containers":{"c1":{"Name":"web","EndpointID":"e1"}}}`),
		"GET /containers/c1/json": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done() // as for a container that is starting
		},
		"DELETE /networks/n9": func(_ http.ResponseWriter, r *http.Request) {
			stuck <- struct{}{}
			<-r.Context().Done()
		},
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case m := <-happened:
					_ = json.NewEncoder(w).Encode(m)
					w.(http.Flusher).Flush()
				}
			}
		},
	})
	a := newListening()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = newEngine(agentOf(a), slog.New(slog.DiscardHandler)).follow(ctx, placeOf(socket))
	}()
	defer func() { cancel(); <-ended }()
	<-stuck
	happened <- events.Message{Type: events.NetworkEventType, Action: events.ActionConnect,
		Actor: events.Actor{ID: "n1", Attributes: map[string]string{"type": driverName, "container": "c1"}}}
	a.await(t, "e1", func(c Container) bool { return c.Name == "web" })
}

// An engine that fails to answer says no more by itself: it is asked again.
func TestAnInspectionThatFailsIsRepeated(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	c, err := client.New(client.WithHost("unix://" + answering(t, map[string]http.HandlerFunc{
		"GET /containers/c1/json": func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if asked++; asked < 3 {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write([]byte(`{"message":"busy"}`))
				return
			}
			_, _ = w.Write([]byte(`{"Name":"/web","NetworkSettings":{"Networks":{"blue":{"EndpointID":"e1","Aliases":["www"]}}}}`))
		},
	})))
	if err != nil {
		t.Fatal(err)
	}
	a := newListening()
	n := newNames(t.Context(), c, agentOf(a), slog.New(slog.DiscardHandler))
	n.look("c1")
	n.wait()
	if got := a.of("e1"); got.Name != "web" || !slices.Contains(got.Aliases, "www") {
		t.Errorf("after %d inspections e1 is %+v", asked, got)
	}
}

// What the network said first does not come after what the container said.
func TestTheNewestDescriptionIsTheLast(t *testing.T) {
	a := newListening()
	first, goOn := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(first); <-goOn })
	a.before = func(c Container) {
		if !slices.Contains(c.Aliases, "www") {
			hold()
		}
	}
	n := newNames(t.Context(), nil, agentOf(a), slog.New(slog.DiscardHandler))
	k := n.get("c1")
	n.listed(k, 0, "blue", network.EndpointResource{Name: "web", EndpointID: "e1"})
	var poor, rich sync.WaitGroup
	poor.Go(func() { n.publish(k) })
	<-first
	n.mu.Lock()
	k.answers++
	k.name, k.aliases["blue"] = "shop", []string{"www"}
	n.mu.Unlock()
	arrived := make(chan struct{})
	rich.Go(func() { n.publish(k); close(arrived) })
	select {
	case <-arrived: // it did not wait for its turn
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	poor.Wait()
	rich.Wait()
	if got := a.of("e1"); got.Name != "shop" || !slices.Contains(got.Aliases, "www") {
		t.Errorf("the last description is %+v", got)
	}
	n.listed(k, 0, "blue", network.EndpointResource{Name: "web", EndpointID: "e1"})
	if k.name != "shop" {
		t.Errorf("a network's answer to an earlier question renames the container to %s", k.name)
	}
}
