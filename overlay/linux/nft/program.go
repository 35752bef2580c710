package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// programs are the places where nft(8) may be: a user who became root may have a
// PATH without them.
var programs = []string{"nft", "/usr/sbin/nft", "/sbin/nft"}

// Installed returns nil if there is nft(8), without which no table can be put:
// otherwise overlay.ErrNoNFT.
func Installed() error {
	_, err := program()
	return err
}

func program() (path string, err error) {
	for _, name := range programs {
		if path, err = exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", overlay.ErrNoNFT
}

// programTimeout bounds a call of nft(8), which takes 10 ms, and 100 on a machine
// that is very busy.
const programTimeout = 5 * time.Second

// run runs nft(8) in the namespace of the calling thread. The program is killed
// when that thread ends. It gets its input and output, and no other descriptor of
// the agent.
func run(ctx context.Context, timeout time.Duration, input string, args ...string) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	c.Stdin = strings.NewReader(input)
	c.Env = []string{"LC_ALL=C"}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("nft %s: %w", strings.Join(args, " "), ctx.Err())
	case err != nil:
		return "", fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// scratch makes a network namespace without a name, calls fn in it, and returns
// it unless fn fails. Whoever closes the file gives the namespace up.
func scratch(fn func() error) (ns *os.File, err error) {
	err = apart(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if ns, err = os.Open(threadNS); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return errors.Join(err, ns.Close())
		}
		return nil
	})
	return ns, err
}

// inside calls fn in a namespace.
func inside(ns *os.File, fn func() error) error {
	return apart(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		return fn()
	})
}

const threadNS = "/proc/thread-self/ns/net"

// apart calls fn on a thread of its own, which fn may take to another namespace.
// Should it not find back it is never given to another goroutine but ends.
func apart(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(threadNS)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
