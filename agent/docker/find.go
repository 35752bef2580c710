package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// errElsewhere: the engine's containers are not on this host's network.
var errElsewhere = errors.New("the engine runs in another network namespace")

// find reports whether an engine of this host listens at a place. The socket
// may be seen from other network namespaces, where other agents run: the engine
// is ours when the process that made the socket shares our namespace. With
// socket activation that is the service manager. The error says why an engine
// that is there is not ours; without one there is no error.
func find(at place) (bool, error) {
	c, err := at.dial(context.Background())
	if errors.Is(err, errAsleep) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	pid, err := peer(c.(*net.UnixConn))
	if err != nil {
		return false, fmt.Errorf("who serves %s: %w", at.socket, err)
	}
	shared, err := sharesNetwork(pid)
	if err == nil && !shared {
		err = fmt.Errorf("%s: %w", at.socket, errElsewhere)
	}
	return shared, err
}

// sharesNetwork reports whether a process is in our network namespace. A thread of
// an engine or of this agent may visit another namespace for a while or for good,
// the first thread too. So this thread's namespace counts as ours, and one thread
// of the engine that is in it suffices.
func sharesNetwork(pid int32) (bool, error) {
	ours, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, err
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
	if err != nil {
		return false, err
	}
	for _, t := range threads {
		if theirs, err := os.Stat(t); err == nil && os.SameFile(theirs, ours) {
			return true, nil
		}
	}
	return false, nil
}

// peer is the process that began to listen (SO_PEERCRED, unix(7)).
func peer(c *net.UnixConn) (pid int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return cred.Pid, nil
}
