package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// serving runs one of the API's servers on l until the test ends.
func serving(t testing.TB, l net.Listener, serve func(context.Context, net.Listener, api.Service, *slog.Logger) error, s api.Service) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, s, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// publicSocket serves f to everybody beside the socket, which it returns.
func publicSocket(t testing.TB, s api.Service) (beside string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	beside = filepath.Join(dir, "agentd.sock")
	l, err := api.ListenPublic(api.PublicSocket(beside))
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, api.ServePublic, s)
	return beside
}

// Root may do everything, but not at the public socket: what a program there could
// reach is known without knowing who runs it.
func TestPublicSocketReadsAndNothingElse(t *testing.T) {
	f := &fake{}
	path := api.PublicSocket(publicSocket(t, f))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Fatalf("%v %v", info, err)
	}
	c := api.NewClient(path)
	var open []string
	for _, tt := range calls {
		_, err := tt.call(t.Context(), c)
		switch {
		case err == nil:
			open = append(open, tt.name)
		case api.KindOf(err) != api.KindPermission:
			t.Errorf("%s: %v", tt.name, err)
		case os.Geteuid() == 0 && !strings.HasPrefix(hintOf(err), "agentctl status"):
			t.Errorf("%s: %v, hint %q", tt.name, err, hintOf(err))
		}
	}
	if want := []string{"status", "version", "members", "events", "verify", "metrics"}; !slices.Equal(open, want) {
		t.Errorf("open are %q, want %q", open, want)
	}
	for _, target := range []string{"/healthz", "/readyz", "/v1/openapi.yaml"} {
		if code, _ := get(t, "unix", path, target); code != 200 {
			t.Errorf("%s: %d", target, code)
		}
	}
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Hint
	}
	return ""
}

// get asks a server with one connection of its own.
func get(t testing.TB, network, address, target string, header ...string) (code int, body string) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: agentd\r\nConnection: close\r\n%s\r\n", target, strings.Join(header, "\r\n"))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestStrangersReadBesideTheSocketThatTheyMayNotOpen(t *testing.T) {
	needsRoot(t)
	f := &fake{}
	socket := publicSocket(t, f)
	l, err := api.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, f)
	got := asUser(t, socket, nobody)
	for i, want := range []string{"done", "done", "done", "permission DELETE /v1/networks/blue: not permitted hint: sudo usermod -aG weft USER"} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("call %d: %q, want %q", i, got[i], want)
		}
	}
	if f.last != nil {
		t.Errorf("the service saw %v", f.last)
	}
}

// One user's connections end at the limit; another's are taken all the same.
func TestNoUserTakesAllConnections(t *testing.T) {
	needsRoot(t)
	socket := publicSocket(t, &fake{})
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	closed := 0
	for range 40 {
		c, err := net.Dial("unix", api.PublicSocket(socket))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			closed++
		}
	}
	if closed != 40-16 {
		t.Errorf("%d of 40 connections were closed, want 24", closed)
	}
	if got := asUser(t, api.PublicSocket(socket), nobody); got[0] != "done" {
		t.Errorf("another user: %q", got[0])
	}
	held[0].Close()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := api.NewClient(api.PublicSocket(socket)).Version(t.Context()); err == nil {
			break
		} else if time.Now().After(until) {
			t.Fatalf("after one was closed: %v", err)
		}
	}
}

// busy is a Service whose verify takes until release is closed.
type busy struct {
	*fake
	now, most atomic.Int32
	release   chan struct{}
}

func (b *busy) Verify(ctx context.Context, r api.VerifyRequest) (api.Verification, error) {
	n := b.now.Add(1)
	defer b.now.Add(-1)
	if n > b.most.Load() {
		b.most.Store(n)
	}
	<-b.release
	return b.fake.Verify(ctx, r)
}

func TestCostlyPublicCallsTakeTurns(t *testing.T) {
	b := &busy{fake: &fake{}, release: make(chan struct{})}
	c := api.NewClient(api.PublicSocket(publicSocket(t, b)))
	const calls = 8
	done := make(chan error, calls)
	for range calls {
		go func() {
			_, err := c.Verify(context.Background(), api.VerifyRequest{})
			done <- err
		}()
	}
	for until := time.Now().Add(10 * time.Second); b.now.Load() < 2 && time.Now().Before(until); time.Sleep(time.Millisecond) {
	}
	if _, err := c.Version(t.Context()); err != nil { // costs nothing, and does not wait
		t.Error(err)
	}
	close(b.release)
	for range calls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most := b.most.Load(); most != 2 {
		t.Errorf("%d calls at a time, want 2", most)
	}
}

func TestMetricsListenerAnswersTwoPaths(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, api.ServeMetrics, &fake{})
	at := l.Addr().String()
	for _, tt := range []struct {
		target string
		code   int
		in     string
		header []string
	}{
		{"/metrics", 200, "weft_info 1", nil},
		{"/healthz", 200, "ok", nil},
		{"/v1/status", 404, "here are /metrics and /healthz", nil},
		{"/v1/metrics", 404, "here are", nil},
		{"/debug/pprof/", 404, "here are", nil},
		{"/metrics", 403, "web pages may not", []string{"Origin: http://example.com\r\n"}},
	} {
		code, body := get(t, "tcp", at, tt.target, tt.header...)
		if code != tt.code || !strings.Contains(body, tt.in) {
			t.Errorf("%s: %d %q, want %d with %q", tt.target, code, body, tt.code, tt.in)
		}
	}
}
