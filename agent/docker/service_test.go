package docker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/weft-net/weft/agent/api"
)

// fakeEngine answers /_ping and /version as an engine of some version does, in
// this process and so in this network namespace.
func fakeEngine(t *testing.T, version, oldest string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", version)
		w.Header().Set("Ostype", "linux")
		if strings.HasSuffix(r.URL.Path, "/version") && oldest != "" {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "client version is too old. Minimum supported API version is " + oldest})
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

func TestEnginesOfOtherTimesAreRefusedInWords(t *testing.T) {
	for _, c := range []struct{ what, version, oldest, want string }{
		{"too old", "1.30", "", "weft needs Docker 20.10 or later"},
		{"too new", "1.99", "1.90", "a newer release of weft may"},
	} {
		_, _, err := open(t.Context(), placeOf(fakeEngine(t, c.version, c.oldest)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.what, c.want, err)
		}
	}
}

func TestFindSeesOnlyEnginesThatListen(t *testing.T) {
	if found, err := find(placeOf(filepath.Join(t.TempDir(), "none"))); found || err != nil {
		t.Errorf("no socket: %v, %v", found, err)
	}
	if found, err := find(placeOf(fakeEngine(t, "1.41", ""))); !found || err != nil {
		t.Errorf("an engine of this host: %v, %v", found, err)
	}
}

// A plugin socket that another agent serves stays its own, and status says so.
func TestAnotherAgentsSocketIsLeftAlone(t *testing.T) {
	plugin := filepath.Join(t.TempDir(), "weft.sock")
	other, err := api.ListenUnix(plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	s := New(Config{Socket: fakeEngine(t, "1.41", ""), Plugin: plugin, Log: slog.New(slog.DiscardHandler)}, newFake())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c := s.Checks(); len(c) == 1 && c[0].State == api.CheckFail && strings.Contains(c[0].Detail, "another agent serves "+plugin) {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("checks: %v", s.Checks())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type deafListener struct{ net.Listener }

func (deafListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

// An agent that Docker cannot reach ends, and is started again, instead of going
// on without Docker.
func TestRunEndsWithAPluginSocketThatCannotBeServed(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "weft.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Listener: deafListener{l}, Log: slog.New(slog.DiscardHandler)}, newFake())
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "docker's plugin socket: broken") {
		t.Errorf("Run: %v", err)
	}
}

// An engine that hangs cannot do what has to be done before a host leaves.
func TestAnEngineThatHangsIsKnownButNotFound(t *testing.T) {
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, newFake())
	shows := func(what string, found bool, want string) {
		t.Helper()
		if version, _ := s.Engine(); s.Found() != found || version != want {
			t.Errorf("%s: found %t, engine %q", what, s.Found(), version)
		}
	}
	shows("no engine", false, "")
	s.engine.api, s.engine.version = &client.Client{}, client.ServerVersionResult{Version: "20.10.24", APIVersion: "1.41"}
	shows("an engine", true, "20.10.24")
	s.engine.silent = time.Now()
	shows("one that hangs", false, "20.10.24")
}

// A host without Docker has no line about it in status.
func TestNoEngineNoCheck(t *testing.T) {
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, newFake())
	if c := s.Checks(); len(c) != 0 {
		t.Errorf("checks: %v", c)
	}
}
