package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-net/weft/agent/api"
)

var update = flag.Bool("update", false, "write what agentctl answers into testdata/*.txt")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agentctl": recorded})
}

// recorded is main, which keeps the hints that it prints in a file of $HINTS.
func recorded() {
	var said bytes.Buffer
	code := run(os.Args[1:], os.Stdin, os.Stdout, io.MultiWriter(os.Stderr, &said), os.Getenv)
	if f, err := os.CreateTemp(os.Getenv("HINTS"), "said"); err == nil {
		f.Write(said.Bytes())
		f.Close()
	}
	os.Exit(code)
}

// TestDialogues runs testdata/*.txt: what a person types and what agentctl
// answers, with a fake agent behind a real socket.
func TestDialogues(t *testing.T) {
	hints := t.TempDir()
	t.Cleanup(func() { typeHints(t, hints) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			ag, err := startAgent(newCluster())
			if err != nil {
				return err
			}
			env.Defer(ag.remove)
			env.Values["agent"] = ag
			env.Setenv("WEFT_SOCKET", ag.socket)
			env.Setenv("HINTS", hints)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"agent": steer,
			"netns": makeNetns,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "agent": // one that is really installed here
				_, err := os.Stat(api.DefaultSocket)
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
	})
}

// exits runs a command that must end with an exit code: exits CODE COMMAND...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v exits %d, want %d", args[1:], got, want)
	}
}

// steer changes the agent: agent STATE, agent stop, agent slow, agent fast.
func steer(ts *testscript.TestScript, neg bool, args []string) {
	ag, ok := ts.Value("agent").(*agent)
	if neg || !ok || len(args) != 1 {
		ts.Fatalf("usage: agent STATE|stop|slow|fast")
	}
	ag.fake.mu.Lock()
	defer ag.fake.mu.Unlock()
	switch args[0] {
	case "stop":
		ts.Check(ag.stop())
	case "slow":
		ag.fake.slow = make(chan struct{})
	case "fast":
		close(ag.fake.slow)
	case "no-fabric":
		ag.fake.fabric = ""
	default:
		ag.fake.state = args[0]
	}
}

var netnsCount atomic.Int32

// makeNetns makes a network namespace for this script alone, which the agent
// then says is the fabric: netns. With netns private it is mounted where only
// the agent's process can see it.
func makeNetns(ts *testscript.TestScript, _ bool, args []string) {
	name := fmt.Sprintf("weft-t-%d-%d", os.Getpid(), netnsCount.Add(1))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		ts.Fatalf("ip netns add: %v: %s", err, out)
	}
	ts.Defer(func() { exec.Command("ip", "netns", "del", name).Run() })
	path, pid := "/run/netns/"+name, 0
	if len(args) > 0 {
		path, pid = mountPrivately(ts, path)
	}
	ag := ts.Value("agent").(*agent)
	ag.fake.mu.Lock()
	defer ag.fake.mu.Unlock()
	ag.fake.fabric, ag.fake.pid = path, pid
}

// mountPrivately mounts a namespace on a file in the mount namespace of a
// process that lives as long as the script.
func mountPrivately(ts *testscript.TestScript, ns string) (path string, pid int) {
	path = ts.MkAbs("fabric")
	ts.Check(os.WriteFile(path, nil, 0o600))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1" && echo mounted && exec cat`, ns, path)
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { stdin.Close(); cmd.Wait() })
	if _, err := io.ReadFull(stdout, make([]byte, len("mounted"))); err != nil {
		ts.Fatalf("mount --bind %s: %v", ns, err)
	}
	return path, cmd.Process.Pid
}

// agent is a fake behind a socket.
type agent struct {
	fake   *cluster
	socket string
	end    context.CancelFunc
	done   chan error
}

func startAgent(c *cluster) (*agent, error) {
	a, err := startService(c)
	if err == nil {
		a.fake = c
	}
	return a, err
}

func startService(s api.Service) (*agent, error) {
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		return nil, err
	}
	a := &agent{socket: filepath.Join(dir, "agentd.sock"), done: make(chan error, 1)}
	l, err := api.ListenUnix(a.socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.end = cancel
	go func() { a.done <- api.Serve(ctx, l, s, slog.New(slog.DiscardHandler)); close(a.done) }()
	return a, nil
}

// stop ends the agent as systemctl stop would. Safe to repeat.
func (a *agent) stop() error {
	a.end()
	return <-a.done
}

func (a *agent) remove() {
	a.stop()
	os.RemoveAll(filepath.Dir(a.socket))
}

// newAgent is an agent for a test that is no dialogue.
func newAgent(t *testing.T) *agent {
	t.Helper()
	ag, err := startAgent(newCluster())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ag.remove)
	return ag
}
