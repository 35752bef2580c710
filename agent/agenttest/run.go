package agenttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Result is what a program did.
type Result struct {
	Args   []string
	Stdout string
	Stderr string
	Code   int // exit code; -1 when it was killed or did not start
}

func (r Result) String() string {
	return fmt.Sprintf("%s\nexit code %d\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// commandTimeout is far above what any command of a test may take: a command
// that reaches it hangs.
const commandTimeout = 2 * time.Minute

// Run runs a program to its end.
func Run(stdin string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	// A background grandchild that holds the pipes must not hold the test.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	r := Result{Args: args, Stdout: stdout.String(), Stderr: stderr.String()}
	if err != nil {
		r.Code = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			r.Code = exit.ExitCode()
		} else {
			r.Stderr += err.Error()
		}
	}
	return r
}

// must runs a program whose failure ends the test, and returns what it printed.
func must(t testing.TB, args ...string) string {
	t.Helper()
	return mustFeed(t, "", args...)
}

// mustFeed is must with a standard input.
func mustFeed(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	r := Run(stdin, args...)
	if r.Code != 0 {
		t.Fatalf("%s", r)
	}
	return r.Stdout
}

// Eventually calls check until it returns nil, and fails the test with its last
// error when that takes longer than within. It returns how long it took.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	took, err := Await(within, check)
	if err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
	return took
}

// slower is how many times the machine is slower than those that the bounds of the
// tests are meant for.
var slower = func() time.Duration {
	n, err := strconv.Atoi(os.Getenv(SlowerEnv))
	if err != nil {
		return 1
	}
	return time.Duration(n)
}()

// Await calls check until it returns nil or the time is over, and returns how
// long it took and the last error.
func Await(within time.Duration, check func() error) (time.Duration, error) {
	start := time.Now()
	within *= slower
	for {
		err := check()
		took := time.Since(start)
		if err == nil || took > within {
			return took, err
		}
		// Between two looks: short against every bound of the tests, long
		// against the cost of a look.
		time.Sleep(3 * time.Millisecond)
	}
}

// WantError checks that a command failed as the contract says: the exit code,
// what and why on one line, and the next command to type on another.
func WantError(t testing.TB, r Result, codes ...int) {
	t.Helper()
	if !slices.Contains(codes, r.Code) {
		t.Errorf("want exit code %v: %s", codes, r)
	}
	program := filepath.Base(r.Args[slices.IndexFunc(r.Args, func(a string) bool {
		return strings.HasPrefix(filepath.Base(a), "agent")
	})])
	message, hint := false, false
	for line := range strings.Lines(r.Stderr) {
		message = message || strings.HasPrefix(line, program+": ")
		hint = hint || strings.HasPrefix(line, "hint: ")
	}
	if !message || !hint {
		t.Errorf("want a line %q and a line %q: %s", program+": …", "hint: …", r)
	}
	if strings.Contains(r.Stderr, "goroutine ") {
		t.Errorf("a crash: %s", r)
	}
}
