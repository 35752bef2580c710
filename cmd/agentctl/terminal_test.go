package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/api"
)

// terminal opens a pseudo-terminal (pts(4)): what is written to tty can be read
// from screen.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	screen = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

// readUntil reads the screen until it shows text.
func readUntil(t *testing.T, screen *os.File, text string) string {
	t.Helper()
	screen.SetReadDeadline(time.Now().Add(10 * time.Second))
	var seen []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(seen, []byte(text)) {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q, want %q", err, seen, text)
		}
		seen = append(seen, buf[:n]...)
	}
	return string(seen)
}

// socketOnly is an environment with nothing but WEFT_SOCKET.
func socketOnly(socket string) func(string) string {
	return func(key string) string {
		if key == "WEFT_SOCKET" {
			return socket
		}
		return ""
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	ag := newAgent(t)
	tty, screen := terminal(t)
	if code := run([]string{"init", "--adopt"}, strings.NewReader(""), &bytes.Buffer{}, tty, socketOnly(ag.socket)); code != 0 {
		t.Fatalf("exit %d", code)
	}
	got := readUntil(t, screen, "making the cluster")
	if want := "asking the store\r\nmaking the cluster"; !strings.HasPrefix(got, want) {
		t.Errorf("terminal shows %q, want %q", got, want)
	}
	var stderr bytes.Buffer
	run([]string{"init", "--adopt"}, strings.NewReader(""), &bytes.Buffer{}, &stderr, socketOnly(ag.socket))
	if stderr.Len() > 0 {
		t.Errorf("a pipe gets %q", &stderr)
	}
}

// A script's log shall say what held it up, and once.
func TestWaitingIsForEverybody(t *testing.T) {
	ag := newAgent(t)
	var stderr bytes.Buffer
	if code := run([]string{"leave", "--wait", "--timeout", "300ms"}, strings.NewReader(""), &bytes.Buffer{}, &stderr, socketOnly(ag.socket)); code != 6 {
		t.Errorf("exit %d, want 6", code)
	}
	want := "waiting for db on blue\nagentctl: leave --wait: gave up waiting for db on blue\nhint: agentctl leave --purge # detaches what runs here\n"
	if stderr.String() != want {
		t.Errorf("a pipe gets %q, want %q", &stderr, want)
	}
}

func TestWarningsAreForEverybody(t *testing.T) {
	ag := newAgent(t)
	var stderr bytes.Buffer
	args := []string{"join", "192.0.2.7", "--token-file", "-"}
	if code := run(args, strings.NewReader("weft1.good"), &bytes.Buffer{}, &stderr, socketOnly(ag.socket)); code != 0 {
		t.Errorf("exit %d", code)
	}
	if want := "agentctl: warning: host3: 4799/udp is blocked there\n"; stderr.String() != want {
		t.Errorf("a pipe gets %q, want %q", &stderr, want)
	}
}

func TestWatchRedrawsATerminal(t *testing.T) {
	ag := newAgent(t)
	tty, screen := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: strings.NewReader(""), out: tty, err: &bytes.Buffer{}, env: socketOnly(ag.socket), poll: time.Millisecond}
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, []string{"members", "--watch"}) }()
	if got := readUntil(t, screen, "dead"); !strings.HasPrefix(got, "\x1b[H\x1b[2J") {
		t.Errorf("terminal shows %q", got)
	}
	setStatus(ag, "host2", "alive")
	readUntil(t, screen, "host2  192.0.2.2  alive")
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit %d: %s", code, a.err)
	}
}

func setStatus(ag *agent, name, status string) {
	ag.fake.mu.Lock()
	defer ag.fake.mu.Unlock()
	for i := range ag.fake.members {
		if ag.fake.members[i].Name == name {
			ag.fake.members[i].Status = status
		}
		ag.fake.members[i].RTT += 0.125 // always moves, and is no change
	}
}

func TestWatchWritesOneStateALineIntoAPipe(t *testing.T) {
	ag := newAgent(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: strings.NewReader(""), out: w, err: &bytes.Buffer{}, env: socketOnly(ag.socket), poll: time.Millisecond}
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, []string{"members", "--watch"}) }()
	got := readUntil(t, r, "\n")
	for _, status := range []string{"alive", "suspect"} {
		setStatus(ag, "host1", "alive") // only the round-trip times
		setStatus(ag, "host2", status)
		got += readUntil(t, r, "\n")
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit %d: %s", code, a.err)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for i, status := range []string{"dead", "alive", "suspect"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], `[{"name":"host1"`) || !strings.Contains(lines[i], status) {
			t.Fatalf("line %d of %q, want status %s", i, lines, status)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

func TestInterruptedCommandFails(t *testing.T) {
	ag := newAgent(t)
	tty, screen := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: tty, env: socketOnly(ag.socket), poll: time.Millisecond}
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, []string{"leave", "--wait"}) }()
	readUntil(t, screen, "waiting for db on blue")
	cancel()
	if code := <-done; code != 1 {
		t.Errorf("exit %d", code)
	}
	readUntil(t, screen, "interrupted")
}

func TestWaitEndsWhenTheStateIsOK(t *testing.T) {
	ag := newAgent(t)
	ag.fake.state = "degraded"
	tty, screen := terminal(t)
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: tty, env: socketOnly(ag.socket), poll: time.Millisecond}
	done := make(chan int, 1)
	go func() { done <- a.execute(t.Context(), []string{"status", "--wait"}) }()
	readUntil(t, screen, "status: degraded: store (away for 12s)")
	ag.fake.mu.Lock()
	ag.fake.state = "ok"
	ag.fake.mu.Unlock()
	if code := <-done; code != 0 || !strings.HasPrefix(out.String(), "host1: ok") {
		t.Errorf("exit %d: %s", code, &out)
	}
}

func TestFullDiskIsAFailure(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	defer full.Close()
	ag := newAgent(t)
	for _, args := range [][]string{
		{"members"}, {"members", "-o", "json"}, {"members", "-o", "jsonl"}, {"members", "-o", "yaml"}, {"members", "--format", "{{.Name}}"},
		{"members", "--watch"}, {"status"}, {"network", "ls", "-q"}, {"network", "inspect", "blue"}, {"network", "rm", "red"},
		{"endpoint", "ls"}, {"dns", "query", "web"}, {"version"}, {"completion", "bash"}, {"leave", "--purge"},
	} {
		var stderr bytes.Buffer
		if code := run(args, strings.NewReader(""), full, &stderr, socketOnly(ag.socket)); code != 1 {
			t.Errorf("%v: exit %d: %s", args, code, &stderr)
		}
	}
}

func TestNamesOfOtherHostsCannotSteerTheTerminal(t *testing.T) {
	ag := newAgent(t)
	ag.fake.members = []api.Member{{Name: "evil\x1b]0;owned\a\n\tx", Address: "192.0.2.66", Status: "alive\r\nforged  row"}}
	var out bytes.Buffer
	if code := run([]string{"members"}, strings.NewReader(""), &out, &bytes.Buffer{}, socketOnly(ag.socket)); code != 0 {
		t.Fatalf("exit %d", code)
	}
	if strings.ContainsAny(out.String(), "\x1b\a\t\r") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("table is %q", &out)
	}
}
