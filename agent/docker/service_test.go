package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
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

func TestEngineIsToldTheRelease(t *testing.T) {
	said := make(chan string, 4)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		said <- r.UserAgent()
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	if c, _, err := open(t.Context(), placeOf(socket)); err == nil {
		_ = c.Close()
	}
	if got := <-said; got != api.UserAgent() {
		t.Errorf("User-Agent %q, want %q", got, api.UserAgent())
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
	s := New(Config{Socket: fakeEngine(t, "1.41", ""), Plugin: plugin, Log: slog.New(slog.DiscardHandler)}, agentOf(newFake()))
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
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Listener: deafListener{l}, Log: slog.New(slog.DiscardHandler)}, agentOf(newFake()))
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "docker's plugin socket: broken") {
		t.Errorf("Run: %v", err)
	}
}

// pipes is a listener whose connections are in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error { close(p); return nil }
func (pipes) Addr() net.Addr { return &net.UnixAddr{} }

// slow is an agent that takes a while for an interface.
type slow struct {
	*fake
	takes time.Duration
}

func (s slow) Join(ctx context.Context, _, _ string) (Interface, error) {
	select {
	case <-ctx.Done():
		return Interface{}, ctx.Err()
	case <-time.After(s.takes):
		return Interface{Name: "w0123456789ab"}, nil
	}
}

// A call under way has its answer before the agent ends, unless it takes longer
// than the service manager waits.
func TestStopWaitsForCallsUnderWay(t *testing.T) {
	for _, tt := range []struct {
		takes, stops time.Duration
		answered     bool
	}{
		{5 * time.Second, 5 * time.Second, true},
		{time.Minute, stopWithin, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := make(pipes)
			s := New(Config{Socket: "/nonexistent", Listener: l, Log: slog.New(slog.DiscardHandler)}, agentOf(slow{newFake(), tt.takes}))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			docker, conn := net.Pipe()
			l <- conn
			body := `{"NetworkID":"n","EndpointID":"e","SandboxKey":"/run/docker/netns/1"}`
			if _, err := fmt.Fprintf(docker, "POST /NetworkDriver.Join HTTP/1.1\r\nHost: plugin\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
				t.Fatal(err)
			}
			answer := make(chan string, 1)
			go func() {
				line, _ := bufio.NewReader(docker).ReadString('\n')
				answer <- line
			}()
			synctest.Wait()
			begun := time.Now()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("a call of %v: Run: %v", tt.takes, err)
			}
			// The server looks twice a second whether it is done.
			if took := time.Since(begun); took < tt.stops || took > tt.stops+time.Second {
				t.Errorf("a call of %v: the stop took %v", tt.takes, took)
			}
			select {
			case line := <-answer:
				if !tt.answered || !strings.Contains(line, "200 OK") {
					t.Errorf("a call of %v is answered %q", tt.takes, line)
				}
			default:
				if tt.answered {
					t.Errorf("a call of %v is not answered", tt.takes)
				}
			}
			_ = docker.Close()
			time.Sleep(callTimeout) // the call ends by itself
		})
	}
}

// An engine that hangs cannot do what has to be done before a host leaves.
func TestAnEngineThatHangsIsKnownButNotFound(t *testing.T) {
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, agentOf(newFake()))
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
	s := New(Config{Socket: "/nonexistent", Plugin: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, agentOf(newFake()))
	if c := s.Checks(); len(c) != 0 {
		t.Errorf("checks: %v", c)
	}
}
