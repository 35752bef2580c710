package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery/pool/embedded"
)

// The test binary is its own second agent: with childFile set it serves the
// store until it is killed, and with childWrite it also writes to it.
const (
	childFile   = "WEFT_TEST_STORE_FILE"
	childSocket = "WEFT_TEST_STORE_SOCKET"
	childWrite  = "WEFT_TEST_STORE_WRITE"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childFile); file != "" {
		if err := child(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child says "ready" when it serves the store, and then the number of each
// write that was acknowledged.
func child(file string) error {
	ctx := context.Background()
	s := embedded.New(embedded.Config{File: file, Socket: os.Getenv(childSocket), Log: slog.New(slog.DiscardHandler)})
	failed := make(chan error, 1)
	go func() { failed <- s.Run(ctx) }()
	for {
		if _, err := s.ID(ctx); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ready")
	if os.Getenv(childWrite) == "" {
		return <-failed
	}
	start, err := strconv.Atoi(os.Getenv(childWrite))
	if err != nil {
		return err
	}
	for i := start; ; i++ {
		if _, err := put(ctx, s.Client(), fmt.Sprintf("n/%08d", i), "v"); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// put writes one key.
func put(ctx context.Context, c *http.Client, key, value string) (ok bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://store/v1/kv/"+key, strings.NewReader(value))
	if err != nil {
		return false, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s: %w", resp.Status, b, errors.Join(err))
	}
	return strings.Contains(string(b), "true"), nil
}

// index asks for a folder and returns its index.
func index(ctx context.Context, c *http.Client, query string) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store/v1/kv/"+query, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 {
		return 0, errors.New(resp.Status)
	}
	return strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
}

// startChild starts the second agent and returns when it serves the store.
func startChild(t *testing.T, file, socket, write string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFile+"="+file, childSocket+"="+socket, childWrite+"="+write)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("second agent said %q", lines.Text())
	}
	return cmd, lines
}

func TestTakeover(t *testing.T) {
	var worst time.Duration
	for range 10 {
		worst = max(worst, takeover(t))
	}
	t.Logf("the next write succeeded at most %v after the serving agent was killed", worst)
	if worst > time.Second {
		t.Errorf("takeover took %v, want less than 1 s", worst)
	}
}

// takeover kills the serving agent under the eyes of another agent, and returns how
// long it was until that agent's next write succeeded.
func takeover(t *testing.T) time.Duration {
	t.Helper()
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "s.db"), filepath.Join(dir, "s")
	serving, _ := startChild(t, file, socket, "")
	s, stop := run(t, embedded.Config{File: file, Socket: socket})
	defer stop()
	ctx, c := t.Context(), s.Client()
	id, err := s.ID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(ctx, c, "f/a", "1"); err != nil {
		t.Fatal(err)
	}
	before, err := index(ctx, c, "f/?recurse")
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := index(ctx, c, fmt.Sprintf("f/?recurse&wait=60s&index=%d", before))
		waited <- err
	}()
	time.Sleep(20 * time.Millisecond) // the query is on its way

	serving.Process.Kill()
	start := time.Now()
	for i := 0; ; i++ {
		if _, err := put(ctx, c, "f/a", strconv.Itoa(i)+"after"); err == nil {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("nobody took the store over")
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	serving.Wait()

	if err := <-waited; err == nil {
		t.Error("the blocking query outlived its server")
	}
	if after, err := index(ctx, c, "f/?recurse"); err != nil || after <= before {
		t.Errorf("index %d (%v) after %d", after, err, before)
	}
	if now, err := s.ID(ctx); err != nil || now != id {
		t.Errorf("id %s (%v), was %s", now, err, id)
	}
	return took
}

func TestKilledWhileWriting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.db")
	next, last := 0, uint64(0)
	for range 12 {
		c, lines := startChild(t, file, "", strconv.Itoa(next))
		time.AfterFunc(time.Duration(5+rand.N(40))*time.Millisecond, func() { c.Process.Kill() })
		acknowledged := next - 1
		for lines.Scan() {
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acknowledged = n
			}
		}
		c.Wait()

		s, stop := run(t, embedded.Config{File: file})
		at, err := index(t.Context(), s.Client(), "n/?recurse")
		if err != nil {
			t.Fatal(err)
		}
		if at < last {
			t.Fatalf("index %d after %d", at, last)
		}
		last = at
		count := keys(t, s.Client(), "n/")
		// One write may be on the disk whose acknowledgement was not read.
		if count != acknowledged+1 && count != acknowledged+2 {
			t.Fatalf("%d keys, but %d writes were acknowledged", count, acknowledged+1)
		}
		next = count
		stop()
	}
	t.Logf("%d writes, none lost", next)
}

// keys counts the keys below a folder.
func keys(t *testing.T, c *http.Client, folder string) int {
	t.Helper()
	resp, err := c.Get("http://store/v1/kv/" + folder + "?keys")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), folder)
}
