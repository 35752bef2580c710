package nft

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
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
// that is very busy. One that is starved needs longer still: each call that ran out of
// time doubles the next one's, up to mostTimeout, which the watchdog bears.
const (
	programTimeout = 5 * time.Second
	mostTimeout    = 20 * time.Second
)

// patience is how long the next call may take. How slow a program is depends on the
// machine, so it is one for the process.
type patience struct {
	first time.Duration
	cut   atomic.Int32 // calls in a row that ran out of time
}

var loading = patience{first: programTimeout}

func (p *patience) bound() time.Duration {
	return min(p.first<<min(p.cut.Load(), 16), mostTimeout)
}

// learn takes note of how a call ended.
func (p *patience) learn(err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		p.cut.Add(1)
	} else if !errors.Is(err, context.Canceled) {
		p.cut.Store(0)
	}
}

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
