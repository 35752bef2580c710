package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent/api"
)

// How long a call may take when --timeout does not say; 0 is for ever.
const (
	shortCall = 30 * time.Second // asks the agent
	longCall  = 2 * time.Minute  // waits for other members
	waitCall  = time.Minute      // waits for a state
	endless   = 0
)

// app is one invocation: where it reads and writes, and the flags that every
// command has.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	env     func(string) string
	socket  string
	timeout time.Duration // 0: the command's own
	poll    time.Duration // between two looks of --wait and --watch
}

// run is agentctl with the arguments after the program's name. It returns the
// exit code.
func run(args []string, in io.Reader, out, err io.Writer, env func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: in, out: out, err: err, env: env, poll: time.Second}
	return a.execute(ctx, args)
}

func (a *app) execute(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

// call gives f the agent and a context that ends after --timeout, or after
// limit when that is not given.
func (a *app) call(cmd *cobra.Command, limit time.Duration, f func(context.Context, api.Service) error) error {
	ctx := cmd.Context()
	switch {
	case a.timeout < 0:
		return misuse(cmd, "--timeout %s: want a time such as 10s", a.timeout)
	case a.timeout > 0:
		limit = a.timeout
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return f(ctx, a.agent())
}

// agent is the agent of --socket, else of WEFT_SOCKET, else of this host.
func (a *app) agent() *api.Client {
	return api.NewClient(cmp.Or(a.socket, a.env("WEFT_SOCKET")))
}

// agentSocket is where that agent is asked.
func (a *app) agentSocket() string {
	return cmp.Or(a.socket, a.env("WEFT_SOCKET"), api.DefaultSocket)
}

// progress shows the steps of a long call to a person who waits for it: on
// stderr, and only when that is a terminal. A warning is for everybody.
func (a *app) progress(step string) {
	if why, ok := strings.CutPrefix(step, "warning: "); ok {
		a.notice("warning", "%s", why)
	} else if isTerminal(a.err) {
		fmt.Fprintln(a.err, oneLine(step))
	}
}

// waiting is progress for who asked to wait: what holds him up is shown in a
// script's log too, each state once. last is the newest.
type waiting struct {
	app  *app
	last string
}

func (w *waiting) progress(step string) {
	if step == w.last {
		return
	}
	w.last = step
	if strings.HasPrefix(step, "warning: ") {
		w.app.progress(step)
		return
	}
	fmt.Fprintln(w.app.err, oneLine(step))
}

// notice tells what is worth knowing beside the answer.
func (a *app) notice(kind, format string, args ...any) {
	fmt.Fprintf(a.err, "agentctl: %s: %s\n", kind, oneLine(fmt.Sprintf(format, args...)))
}

// isTerminal reports whether a person looks at v.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
