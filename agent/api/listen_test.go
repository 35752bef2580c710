package api_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

func TestListenMakesDirectoryAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "weft", "agentd.sock")
	l, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %o, want 660", info.Mode().Perm())
	}
	want := os.Getegid()
	if g, err := user.LookupGroup(api.Group); err == nil && os.Geteuid() == 0 {
		if want, err = strconv.Atoi(g.Gid); err != nil {
			t.Fatal(err)
		}
	}
	if got := int(info.Sys().(*syscall.Stat_t).Gid); got != want {
		t.Errorf("group %d, want %d", got, want)
	}
}

func TestListenTakesTheSocketOfADeadAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentd.sock")
	leaveDeadSocket(t, path)
	l, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, &fake{})
	if _, err := api.NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestListenLeavesALiveAgentAlone(t *testing.T) {
	socket := serve(t, &fake{})
	_, err := api.ListenUnix(socket)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "another agent serves it") {
		t.Errorf("err = %v", err)
	}
	if _, err := api.NewClient(socket).Status(t.Context()); err != nil {
		t.Errorf("the first agent: %v", err)
	}
}

func TestListenLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentd.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListenUnix(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("err = %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func TestListenSaysThatThePathIsTooLong(t *testing.T) {
	_, err := api.ListenUnix("/tmp/" + strings.Repeat("x", 103))
	if err == nil || !strings.Contains(err.Error(), "the path has 108 bytes, a unix socket's may have 107") {
		t.Errorf("err = %v", err)
	}
}

// Agents that are started at the same instant over a dead one's socket: one
// serves, all others say so.
func TestListenRace(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "agentd.sock")
		leaveDeadSocket(t, path)
		var wg sync.WaitGroup
		got := make(chan net.Listener, 8)
		for range cap(got) {
			wg.Go(func() {
				l, err := api.ListenUnix(path)
				if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
				if err == nil {
					got <- l
				}
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Fatalf("%d agents serve one socket", len(got))
		}
		(<-got).Close()
	}
}

func TestServeEndsCleanly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentd.sock")
	l, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{progress: []string{"waiting"}, hold: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, f, slog.New(slog.DiscardHandler)) }()
	err = api.NewClient(path).Leave(t.Context(), api.LeaveRequest{Wait: true}, func(string) {
		stop() // in the middle of the call, which is then allowed to end
		close(f.hold)
	})
	if err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestServeDoesNotWaitForever(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentd.sock")
	l, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{progress: []string{"waiting"}, hold: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, f, slog.New(slog.DiscardHandler)) }()
	start := time.Now()
	err = api.NewClient(path).Leave(t.Context(), api.LeaveRequest{Wait: true}, func(string) { stop() })
	if err == nil {
		t.Error("the call that waits for ever ended well")
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestServeSaysWhyItEnded(t *testing.T) {
	l, err := api.ListenUnix(filepath.Join(t.TempDir(), "agentd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := api.Serve(t.Context(), l, &fake{}, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("err = %v", err)
	}
}

// A listener that is no unix socket has no peers to trust.
func TestServeOnAPortOnlyTellsTheStatus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, &fake{})
	for path, want := range map[string]string{"/v1/status": "200", "/v1/networks": "403"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("GET " + path + " HTTP/1.0\r\n\r\n"))
		answer := make([]byte, 12)
		if _, err := c.Read(answer); err != nil || !strings.HasSuffix(string(answer), want) {
			t.Errorf("%s: %q, %v", path, answer, err)
		}
		c.Close()
	}
}
