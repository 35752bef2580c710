package nft

import (
	"context"
	"fmt"
	"os/exec"
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
