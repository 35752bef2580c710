package docker

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// growing is an agent whose cluster gets another network at some moment.
type growing struct {
	*fake
	mu    sync.Mutex
	later []Network
}

func (g *growing) Cluster() (Cluster, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.cluster
	c.Networks, c.Objects = slices.Clone(c.Networks), maps.Clone(c.Objects)
	return c, nil
}

func (g *growing) grow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cluster.Networks = append(g.cluster.Networks, g.later...)
	g.later = nil
}

// A network that is created while the engine's networks are being looked at is
// made as well: no event says so, and nothing else may happen for hours.
func TestANetworkCreatedDuringTheLookIsMade(t *testing.T) {
	f := newFake()
	all := f.cluster.Networks
	f.cluster.Networks = all[:1]
	a := &growing{fake: f, later: all[1:2]}
	made := make(chan string, 8)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Ostype", "linux")
		w.Header().Set("Content-Type", "application/json")
		var answer any = map[string]string{"Version": "20.10.24"}
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"): // silent
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		case strings.HasSuffix(r.URL.Path, "/networks"):
			answer = []string{}
			a.grow()
		case strings.HasSuffix(r.URL.Path, "/networks/create"):
			var q struct{ Name string }
			_ = json.NewDecoder(r.Body).Decode(&q)
			made <- q.Name
			w.WriteHeader(http.StatusCreated)
			answer = map[string]string{"Id": "id-of-" + q.Name}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = newEngine(agentOf(a), slog.New(slog.DiscardHandler)).follow(ctx, placeOf(socket))
	}()
	defer func() { cancel(); <-ended }()
	for waited := time.After(5 * time.Second); ; {
		select {
		case name := <-made:
			if name == all[1].Name {
				return
			}
		case <-waited:
			t.Fatalf("network %s is not made", all[1].Name)
		}
	}
}
